"""What sampling parameters may be, whatever the model: vLLM's ranges, and bounds on their cost.

The registry holds an adapter's defaults to them, the inference service every request.
"""

import math
from collections.abc import Iterator
from typing import Final

from protos import inference_pb2

_MAX_STOP_STRINGS: Final = 32
_MAX_STOP_CHARACTERS: Final = 512
_MAX_STOP_TOKENS: Final = 1024
_MAX_BIASED_TOKENS: Final = 1024
_MAX_BIAS: Final = 100.0
_MAX_PENALTY: Final = 2.0
_MAX_LOGPROBS: Final = 20  # vLLM's default max_logprobs
_MAX_COMPLETIONS: Final = 128
_GREEDY_BELOW: Final = 1e-5  # as the engine's sampler has it

Violations = Iterator[tuple[str, str]]
"""Fields of SamplingParams, and what is wrong with each."""


def range_violations(params: inference_pb2.SamplingParams) -> Violations:
    """Everything that no model can serve."""
    yield from _distribution_violations(params)
    yield from _length_violations(params)
    yield from _stop_violations(params)
    yield from _bias_violations(params)
    yield from _penalty_violations(params)
    yield from _output_violations(params)


# Conditions are written so that they are false for NaN.


def _distribution_violations(params: inference_pb2.SamplingParams) -> Violations:
    if not 0 <= params.temperature < math.inf:
        yield "temperature", f"must be at least 0, got {params.temperature:g}"
    if params.HasField("top_p") and not 0 < params.top_p <= 1:
        yield "top_p", f"must be in (0, 1], got {params.top_p:g}"
    if params.top_k < -1:
        yield "top_k", f"must be 0 or -1 (all) or positive, got {params.top_k}"
    if not 0 <= params.min_p <= 1:
        yield "min_p", f"must be in [0, 1], got {params.min_p:g}"


def _length_violations(params: inference_pb2.SamplingParams) -> Violations:
    if params.HasField("max_tokens") and params.max_tokens < 1:
        yield "max_tokens", f"must be at least 1, got {params.max_tokens}"
    if params.min_tokens < 0:
        yield "min_tokens", f"must be at least 0, got {params.min_tokens}"
    if params.HasField("max_tokens") and params.min_tokens > params.max_tokens >= 1:
        yield "min_tokens", f"{params.min_tokens} is more than max_tokens"


def _stop_violations(params: inference_pb2.SamplingParams) -> Violations:
    if len(params.stop) > _MAX_STOP_STRINGS:
        yield "stop", f"at most {_MAX_STOP_STRINGS} strings"
    if not all(0 < len(stop) <= _MAX_STOP_CHARACTERS for stop in params.stop):
        yield "stop", f"each must have 1 to {_MAX_STOP_CHARACTERS} characters"
    if len(params.stop_token_ids) > _MAX_STOP_TOKENS:
        yield "stop_token_ids", f"at most {_MAX_STOP_TOKENS} ids"
    if any(token_id < 0 for token_id in params.stop_token_ids):
        yield "stop_token_ids", "ids must not be negative"


def _bias_violations(params: inference_pb2.SamplingParams) -> Violations:
    if len(params.logit_bias) > _MAX_BIASED_TOKENS:
        yield "logit_bias", f"at most {_MAX_BIASED_TOKENS} tokens"
    if any(token_id < 0 for token_id in params.logit_bias):
        yield "logit_bias", "ids must not be negative"
    if not all(-_MAX_BIAS <= bias <= _MAX_BIAS for bias in params.logit_bias.values()):
        yield "logit_bias", f"each must be in [-{_MAX_BIAS:g}, {_MAX_BIAS:g}]"


def _penalty_violations(params: inference_pb2.SamplingParams) -> Violations:
    if params.HasField("repetition_penalty") and not 0 < params.repetition_penalty < math.inf:
        yield "repetition_penalty", f"must be above 0, got {params.repetition_penalty:g}"
    for name in ("presence_penalty", "frequency_penalty"):
        value = getattr(params, name)
        if not -_MAX_PENALTY <= value <= _MAX_PENALTY:
            yield name, f"must be in [-{_MAX_PENALTY:g}, {_MAX_PENALTY:g}], got {value:g}"


def _output_violations(params: inference_pb2.SamplingParams) -> Violations:
    for name in ("logprobs", "prompt_logprobs"):
        value = getattr(params, name)
        if not 0 <= value <= _MAX_LOGPROBS:
            yield name, f"must be in [0, {_MAX_LOGPROBS}], got {value}"
    if params.HasField("n") and not 1 <= params.n <= _MAX_COMPLETIONS:
        yield "n", f"must be in [1, {_MAX_COMPLETIONS}], got {params.n}"
    elif params.n > 1 and params.HasField("temperature") and params.temperature < _GREEDY_BELOW:
        yield "n", "must be 1 when temperature is 0: all completions would be the same"
