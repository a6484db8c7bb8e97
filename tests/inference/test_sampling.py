"""Sampling parameters: defaults, the adapter's profile, ranges, and what is not supported."""

import math
from typing import Any

import pytest
from google.protobuf import struct_pb2

from inference_service.sampling import (
    ModelLimits,
    check_prompt,
    check_sampling,
    plan_sampling,
    with_profile_defaults,
)
from lorikeet.rpc.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    UnimplementedError,
)
from protos.inference_pb2 import SamplingParams

LIMITS = ModelLimits(max_model_len=100, vocab_size=50, eos_token_ids=(2, 4))


def struct(**values: Any) -> struct_pb2.Struct:
    message = struct_pb2.Struct()
    message.update(values)
    return message


def test_unset_fields_take_the_defaults_of_the_contract() -> None:
    plan = plan_sampling(SamplingParams(), LIMITS, num_prompt_tokens=30)
    options = plan.options
    assert (options.temperature, options.top_p, options.top_k) == (1.0, 1.0, 0)
    assert (options.max_tokens, options.min_tokens) == (70, 0)
    assert options.stop_token_ids == (2, 4)
    assert plan.stop_strings == ()
    assert not plan.include_stop_string


def test_two_requests_without_a_seed_differ_and_a_seed_is_kept() -> None:
    seeds = {plan_sampling(SamplingParams(), LIMITS, 1).options.seed for _ in range(8)}
    assert len(seeds) == 8
    assert plan_sampling(SamplingParams(seed=2**64 - 1), LIMITS, 1).options.seed == 2**64 - 1
    assert plan_sampling(SamplingParams(seed=0), LIMITS, 1).options.seed == 0


def test_set_fields_are_kept_and_clamped_to_the_context() -> None:
    params = SamplingParams(
        temperature=0, top_p=0.5, top_k=-1, max_tokens=90, min_tokens=80, ignore_eos=True
    )
    params.stop_token_ids.extend([7, 7])
    options = plan_sampling(params, LIMITS, num_prompt_tokens=30).options
    assert (options.temperature, options.top_p, options.top_k) == (0.0, 0.5, 0)
    assert (options.max_tokens, options.min_tokens) == (70, 70)
    assert options.stop_token_ids == (7,)


def test_the_profile_fills_what_the_request_left_out() -> None:
    defaults = struct(temperature=0.25, max_tokens=5, stop=["from defaults"])
    requested = SamplingParams(temperature=0, stop=["mine"])
    merged = with_profile_defaults(requested, defaults, ["from profile"])
    assert (merged.temperature, merged.max_tokens, list(merged.stop)) == (0, 5, ["mine"])
    merged = with_profile_defaults(SamplingParams(), defaults, ["from profile"])
    assert (merged.temperature, list(merged.stop)) == (0.25, ["from defaults"])
    merged = with_profile_defaults(SamplingParams(), struct(), ["from profile"])
    assert list(merged.stop) == ["from profile"]


def test_a_profile_that_makes_no_sense_is_not_the_callers_fault() -> None:
    with pytest.raises(FailedPreconditionError) as error:
        with_profile_defaults(SamplingParams(), struct(warmth=1), [])
    assert error.value.reason == "PROFILE_INVALID"


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_p": math.nan}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"min_tokens": 3, "max_tokens": 2}, "min_tokens"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["x"] * 33}, "stop"),
        ({"stop": ["x" * 513]}, "stop"),
        ({"stop_token_ids": [50]}, "stop_token_ids"),
        ({"stop_token_ids": [-1]}, "stop_token_ids"),
    ],
)
def test_values_out_of_range_are_refused_by_name(params: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        check_sampling(SamplingParams(**params), LIMITS)
    assert [violation.field for violation in error.value.violations] == [f"sampling.{field}"]


def test_every_violation_is_named_at_once() -> None:
    with pytest.raises(InvalidArgumentError) as error:
        check_sampling(SamplingParams(temperature=-1, top_p=2, max_tokens=0), LIMITS)
    assert len(error.value.violations) == 3


@pytest.mark.parametrize(
    "params",
    [
        {"logprobs": 0},
        {"min_p": 0.0},
        {"repetition_penalty": 1.0},
        {"presence_penalty": 0.0},
        {"frequency_penalty": 0.0},
        {"n": 2},
    ],
)
def test_unsupported_fields_are_refused_by_name(params: dict[str, Any]) -> None:
    with pytest.raises(UnimplementedError) as error:
        check_sampling(SamplingParams(**params), LIMITS)
    assert error.value.metadata["field"] == f"sampling.{next(iter(params))}"


def test_one_completion_is_supported() -> None:
    check_sampling(SamplingParams(n=1), LIMITS)


def test_prompts_must_fit_with_one_token_to_spare() -> None:
    check_prompt([1] * 99, LIMITS)
    with pytest.raises(InvalidArgumentError, match="has 100 tokens") as error:
        check_prompt([1] * 100, LIMITS)
    assert error.value.reason == "PROMPT_TOO_LONG"


@pytest.mark.parametrize("token_ids", [[], [50], [-1], [1, 2, 2**31 - 1]])
def test_prompts_must_be_of_known_tokens(token_ids: list[int]) -> None:
    with pytest.raises(InvalidArgumentError):
        check_prompt(token_ids, LIMITS)
