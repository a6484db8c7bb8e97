"""Sampling parameters: defaults, the adapter's profile, ranges, and what is not supported."""

import math
from typing import Any

import pytest
from google.protobuf import struct_pb2

from inference_service.sampling import (
    check_prompt,
    check_sampling,
    plan_sampling,
    with_profile_defaults,
)
from inference_service.sampling_ranges import ModelLimits
from lorikeet.rpc.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
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
        ({"stop_token_ids": [*range(5, 50), 0, 1, 3], "min_tokens": 1}, "stop_token_ids"),
        ({"min_p": -0.1}, "min_p"),
        ({"min_p": 1.5}, "min_p"),
        ({"min_p": math.nan}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"repetition_penalty": -1}, "repetition_penalty"),
        ({"repetition_penalty": math.inf}, "repetition_penalty"),
        ({"repetition_penalty": math.nan}, "repetition_penalty"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"presence_penalty": math.nan}, "presence_penalty"),
        ({"frequency_penalty": -2.5}, "frequency_penalty"),
        ({"logprobs": -1}, "logprobs"),
        ({"logprobs": 21}, "logprobs"),
        ({"prompt_logprobs": -1}, "prompt_logprobs"),
        ({"prompt_logprobs": 21}, "prompt_logprobs"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": 2, "temperature": 0}, "n"),
        ({"logit_bias": {50: 1.0}}, "logit_bias"),
        ({"logit_bias": {-1: 1.0}}, "logit_bias"),
        ({"logit_bias": {1: 100.5}}, "logit_bias"),
        ({"logit_bias": {1: math.nan}}, "logit_bias"),
        ({"logit_bias": {1: -math.inf}}, "logit_bias"),
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
        {"n": 1, "temperature": 0},
        {"n": 128},
        {"logprobs": 0, "prompt_logprobs": 20},
        {"min_p": 1.0, "repetition_penalty": 0.01, "presence_penalty": -2},
        {"logit_bias": {0: 100.0, 49: -100.0}},
        {"stop_token_ids": [*range(50)]},
        {"stop_token_ids": [*range(49)], "min_tokens": 2, "ignore_eos": True},
    ],
)
def test_the_ends_of_ranges_are_in_them(params: dict[str, Any]) -> None:
    check_sampling(SamplingParams(**params), LIMITS)


def test_everything_reaches_the_engine() -> None:
    given: dict[str, Any] = {
        "temperature": 0.5,
        "top_p": 0.25,
        "min_p": 0.125,
        "repetition_penalty": 1.5,
        "presence_penalty": 0.75,
        "frequency_penalty": -0.5,
        "logprobs": 0,
        "prompt_logprobs": 3,
        "logit_bias": {5: 1.5, 6: -2.0},
    }
    options = plan_sampling(SamplingParams(**given), LIMITS, 1).options
    assert {name: getattr(options, name) for name in given} == given


def test_unset_settings_leave_the_distribution_alone() -> None:
    options = plan_sampling(SamplingParams(), LIMITS, 1).options
    assert (options.min_p, options.repetition_penalty) == (0, 1)
    assert (options.presence_penalty, options.frequency_penalty, options.logit_bias) == (0, 0, {})
    assert (options.logprobs, options.prompt_logprobs) == (None, None)


def test_each_completion_has_a_seed_of_its_own_made_of_the_requests() -> None:
    plan = plan_sampling(SamplingParams(n=128, seed=7, prompt_logprobs=2), LIMITS, 1)
    every = [plan.options_of(index) for index in range(128)]
    assert every[0] == plan.options
    assert every[0].seed == 7
    assert len({options.seed for options in every}) == 128
    assert {options.prompt_logprobs for options in every[1:]} == {None}
    again = plan_sampling(SamplingParams(n=3, seed=7), LIMITS, 1)
    assert [again.options_of(index).seed for index in range(3)] == [o.seed for o in every[:3]]
    # Written down, so that a new version of this code draws what the one before it drew.
    assert every[1].seed == 14818979533484651488
    other = plan_sampling(SamplingParams(n=2, seed=2**64 - 1), LIMITS, 1).options_of(1).seed
    assert other not in {options.seed for options in every}


def test_a_profile_may_set_any_of_them() -> None:
    defaults = struct(min_p=0.5, n=2, logprobs=1, repetition_penalty=2, logit_bias={"5": 1, "6": 2})
    merged = with_profile_defaults(SamplingParams(logit_bias={7: 3.0}, n=1), defaults, [])
    assert (merged.min_p, merged.logprobs, merged.repetition_penalty) == (0.5, 1, 2)
    assert (merged.n, dict(merged.logit_bias)) == (1, {7: 3.0})
    assert dict(with_profile_defaults(SamplingParams(), defaults, []).logit_bias) == {5: 1, 6: 2}


def test_prompts_must_fit_with_one_token_to_spare() -> None:
    check_prompt([1] * 99, LIMITS)
    with pytest.raises(InvalidArgumentError, match="has 100 tokens") as error:
        check_prompt([1] * 100, LIMITS)
    assert error.value.reason == "PROMPT_TOO_LONG"


@pytest.mark.parametrize("token_ids", [[], [50], [-1], [1, 2, 2**31 - 1]])
def test_prompts_must_be_of_known_tokens(token_ids: list[int]) -> None:
    with pytest.raises(InvalidArgumentError):
        check_prompt(token_ids, LIMITS)
