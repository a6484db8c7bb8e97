"""Sampling parameters: what the caller asked, over the adapter's defaults, checked."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from google.protobuf import json_format, struct_pb2

from inference_service.engine.request import SamplingOptions
from inference_service.sampling_ranges import ModelLimits, sampling_violations
from lorikeet.rpc.errors import (
    FailedPreconditionError,
    FieldViolation,
    InvalidArgumentError,
)
from protos import inference_pb2

_MAX_PRIORITY: Final = 1000
# Fields whose name, meaning and default are the engine's own.
_PASSED_ON: Final = (
    "temperature",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "prompt_logprobs",
)


@dataclass(frozen=True)
class SamplingPlan:
    """The engine's options, and the stop strings, which the front end looks for itself."""

    options: SamplingOptions
    stop_strings: tuple[str, ...]
    include_stop_string: bool
    num_completions: int = 1

    def options_of(self, index: int) -> SamplingOptions:
        """The first has the prompt's logprobs to itself; every other has a seed of its own."""
        if index == 0:
            return self.options
        seed = derived_seed(self.options.seed, index)
        return msgspec.structs.replace(self.options, seed=seed, prompt_logprobs=None)


def derived_seed(seed: int, index: int) -> int:
    """64 bits that depend on all of `seed` and `index`, the same on every machine."""
    data = seed.to_bytes(8, "little") + index.to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def with_profile_defaults(
    requested: inference_pb2.SamplingParams,
    default_sampling: struct_pb2.Struct,
    default_stop: Sequence[str],
) -> inference_pb2.SamplingParams:
    """`requested`, with the adapter profile's value for every field that was not set.

    FAILED_PRECONDITION when the profile's values are not SamplingParams fields.
    """
    merged = inference_pb2.SamplingParams()
    try:
        json_format.ParseDict(json_format.MessageToDict(default_sampling), merged)
    except json_format.ParseError as error:
        raise FailedPreconditionError(
            f"the adapter's default_sampling is not valid: {error}", reason="PROFILE_INVALID"
        ) from error
    if default_stop and not merged.stop:
        merged.stop.extend(default_stop)
    for field, _ in requested.ListFields():
        merged.ClearField(field.name)  # repeated fields replace, they do not add
    merged.MergeFrom(requested)
    return merged


def check_sampling(params: inference_pb2.SamplingParams, limits: ModelLimits) -> None:
    """INVALID_ARGUMENT with every field that is out of range."""
    violations = [
        FieldViolation(f"sampling.{name}", description)
        for name, description in sampling_violations(params, limits)
    ]
    if violations:
        raise InvalidArgumentError(
            "; ".join(f"{each.field}: {each.description}" for each in violations),
            reason="INVALID_SAMPLING",
            violations=violations,
        )


def plan_sampling(
    params: inference_pb2.SamplingParams, limits: ModelLimits, num_prompt_tokens: int
) -> SamplingPlan:
    """Applies the remaining defaults to checked parameters and a prompt that fits."""
    room = limits.max_model_len - num_prompt_tokens
    max_tokens = min(params.max_tokens, room) if params.HasField("max_tokens") else room
    stop_token_ids = [*params.stop_token_ids, *(() if params.ignore_eos else limits.eos_token_ids)]
    given = {name: getattr(params, name) for name in _PASSED_ON if params.HasField(name)}
    options = SamplingOptions(
        **given,
        top_k=max(0, params.top_k),
        seed=params.seed if params.HasField("seed") else secrets.randbits(63),
        max_tokens=max_tokens,
        min_tokens=min(params.min_tokens, max_tokens),
        stop_token_ids=tuple(dict.fromkeys(stop_token_ids)),
        logit_bias=dict(params.logit_bias),
    )
    num_completions = params.n if params.HasField("n") else 1
    return SamplingPlan(
        options, tuple(params.stop), params.include_stop_str_in_output, num_completions
    )


def check_priority(priority: int) -> None:
    """INVALID_ARGUMENT when it is out of range."""
    if abs(priority) > _MAX_PRIORITY:
        description = f"must be in [-{_MAX_PRIORITY}, {_MAX_PRIORITY}], got {priority}"
        raise InvalidArgumentError(
            f"priority: {description}",
            reason="INVALID_PRIORITY",
            violations=[FieldViolation("priority", description)],
        )


def check_prompt(token_ids: Sequence[int], limits: ModelLimits) -> None:
    """INVALID_ARGUMENT for a prompt that is empty, too long, or of ids the model does not have."""
    if not token_ids:
        raise _invalid_prompt("the prompt has no tokens")
    if len(token_ids) >= limits.max_model_len:
        raise _invalid_prompt(
            f"the prompt has {len(token_ids)} tokens; the context of {limits.max_model_len} "
            f"leaves room for {limits.max_model_len - 1} and at least one to generate",
            reason="PROMPT_TOO_LONG",
        )
    check_token_ids(token_ids, limits.vocab_size, "prompt_token_ids")


def check_token_ids(token_ids: Sequence[int], vocab_size: int, field: str) -> None:
    """INVALID_ARGUMENT when an id is outside [0, vocab_size)."""
    for token_id in token_ids:
        if not 0 <= token_id < vocab_size:
            description = f"token id {token_id} is not in the vocabulary of {vocab_size}"
            raise InvalidArgumentError(
                f"{field}: {description}",
                reason="INVALID_TOKEN_ID",
                violations=[FieldViolation(field, description)],
            )


def _invalid_prompt(description: str, *, reason: str = "INVALID_PROMPT") -> InvalidArgumentError:
    return InvalidArgumentError(
        description, reason=reason, violations=[FieldViolation("prompt", description)]
    )
