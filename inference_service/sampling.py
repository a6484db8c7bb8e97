"""Sampling parameters: what the caller asked, over the adapter's defaults, checked."""

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf import json_format, struct_pb2

from inference_service.engine.request import SamplingOptions
from lorikeet.rpc.errors import (
    FailedPreconditionError,
    FieldViolation,
    InvalidArgumentError,
    UnimplementedError,
)
from protos import inference_pb2

_UNSUPPORTED: Final = (
    "logprobs",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)
_MAX_STOP_STRINGS: Final = 32
_MAX_STOP_CHARACTERS: Final = 512
_MAX_STOP_TOKENS: Final = 1024


@dataclass(frozen=True)
class ModelLimits:
    """What a request must fit into."""

    max_model_len: int
    vocab_size: int
    eos_token_ids: tuple[int, ...]


@dataclass(frozen=True)
class SamplingPlan:
    """The engine's options, and the stop strings, which the front end looks for itself."""

    options: SamplingOptions
    stop_strings: tuple[str, ...]
    include_stop_string: bool


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
    """UNIMPLEMENTED for fields this server has no support for; INVALID_ARGUMENT out of range."""
    for name in _UNSUPPORTED:
        if params.HasField(name):
            raise unimplemented_field(f"sampling.{name}")
    if params.HasField("n") and params.n != 1:
        raise unimplemented_field("sampling.n")
    violations = [
        FieldViolation(f"sampling.{name}", description)
        for name, description in [*_number_violations(params), *_stop_violations(params, limits)]
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
    options = SamplingOptions(
        temperature=params.temperature if params.HasField("temperature") else 1.0,
        top_p=params.top_p if params.HasField("top_p") else 1.0,
        top_k=max(0, params.top_k),
        seed=params.seed if params.HasField("seed") else secrets.randbits(63),
        max_tokens=max_tokens,
        min_tokens=min(params.min_tokens, max_tokens),
        stop_token_ids=tuple(dict.fromkeys(stop_token_ids)),
    )
    return SamplingPlan(options, tuple(params.stop), params.include_stop_str_in_output)


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


def unimplemented_field(field: str) -> UnimplementedError:
    """The refusal of a field that would otherwise be ignored in silence."""
    return UnimplementedError(
        f"{field} is not supported by this server",
        reason="FIELD_NOT_SUPPORTED",
        metadata={"field": field},
    )


def _number_violations(params: inference_pb2.SamplingParams) -> list[tuple[str, str]]:
    violations = []
    if not 0 <= params.temperature < math.inf:  # false for NaN too
        violations.append(("temperature", f"must be at least 0, got {params.temperature}"))
    if params.HasField("top_p") and not 0 < params.top_p <= 1:
        violations.append(("top_p", f"must be in (0, 1], got {params.top_p}"))
    if params.top_k < -1:
        violations.append(("top_k", f"must be 0 or -1 (all) or positive, got {params.top_k}"))
    if params.HasField("max_tokens") and params.max_tokens < 1:
        violations.append(("max_tokens", f"must be at least 1, got {params.max_tokens}"))
    if params.min_tokens < 0:
        violations.append(("min_tokens", f"must be at least 0, got {params.min_tokens}"))
    if params.HasField("max_tokens") and params.min_tokens > params.max_tokens >= 1:
        violations.append(("min_tokens", f"{params.min_tokens} is more than max_tokens"))
    return violations


def _stop_violations(
    params: inference_pb2.SamplingParams, limits: ModelLimits
) -> list[tuple[str, str]]:
    violations = []
    if len(params.stop) > _MAX_STOP_STRINGS:
        violations.append(("stop", f"at most {_MAX_STOP_STRINGS} strings"))
    if not all(0 < len(stop) <= _MAX_STOP_CHARACTERS for stop in params.stop):
        violations.append(("stop", f"each must have 1 to {_MAX_STOP_CHARACTERS} characters"))
    if len(params.stop_token_ids) > _MAX_STOP_TOKENS:
        violations.append(("stop_token_ids", f"at most {_MAX_STOP_TOKENS} ids"))
    if not all(0 <= token_id < limits.vocab_size for token_id in params.stop_token_ids):
        violations.append(("stop_token_ids", f"ids must be in [0, {limits.vocab_size})"))
    return violations


def _invalid_prompt(description: str, *, reason: str = "INVALID_PROMPT") -> InvalidArgumentError:
    return InvalidArgumentError(
        description, reason=reason, violations=[FieldViolation("prompt", description)]
    )
