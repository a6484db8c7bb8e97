"""What sampling parameters may be here: the ranges of every model, and what this model has."""

from dataclasses import dataclass

from lorikeet.rpc.sampling_ranges import Violations, range_violations
from protos import inference_pb2


@dataclass(frozen=True)
class ModelLimits:
    """What a request must fit into."""

    max_model_len: int
    vocab_size: int
    eos_token_ids: tuple[int, ...]


def sampling_violations(params: inference_pb2.SamplingParams, limits: ModelLimits) -> Violations:
    """Everything that is out of range; nothing for parameters that can be served."""
    yield from range_violations(params)
    if any(token_id >= limits.vocab_size for token_id in params.stop_token_ids):
        yield "stop_token_ids", f"ids must be in [0, {limits.vocab_size})"
    elif params.min_tokens > 0 and _all_tokens_stop(params, limits):
        yield "stop_token_ids", "they leave no token to come before min_tokens"
    if any(token_id >= limits.vocab_size for token_id in params.logit_bias):
        yield "logit_bias", f"ids must be in [0, {limits.vocab_size})"


def _all_tokens_stop(params: inference_pb2.SamplingParams, limits: ModelLimits) -> bool:
    eos_token_ids = () if params.ignore_eos else limits.eos_token_ids
    return len({*params.stop_token_ids, *eos_token_ids}) >= limits.vocab_size
