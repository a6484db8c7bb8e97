"""The logprobs of a prompt's own tokens, found chunk by chunk while the prompt is run."""

import torch

from inference_service.engine.logprobs import token_logprobs
from inference_service.engine.model_runner import ModelRunner
from inference_service.engine.request import TokenLogprob
from inference_service.engine.row_slices import row_slices
from inference_service.engine.step_plan import ScheduledChunk


def prompt_logprobs(
    runner: ModelRunner, chunk: ScheduledChunk, hidden: torch.Tensor
) -> list[TokenLogprob] | None:
    """What `chunk`, whose hidden states are `hidden`, tells about prompt tokens not told of before.

    The row of a token tells of the one after it, so the first token has no logprobs. Logits are
    made a slice at a time. None when some are not finite. Call it before the chunk is counted as
    computed.
    """
    sequence = chunk.sequence
    num_top = sequence.sampling.prompt_logprobs
    assert num_top is not None
    start = sequence.num_computed
    first = max(start, sequence.num_prompt_logprobs)
    last = min(start + chunk.num_tokens, sequence.num_prompt - 1)
    following = torch.tensor(sequence.token_ids[first + 1 : last + 1], device=hidden.device)
    found: list[TokenLogprob] = []
    for rows in row_slices(max(0, last - first), runner.spec.vocab_size):
        logits = runner.logits(hidden[first - start :][rows])
        if not logits.isfinite().all():
            return None
        found += token_logprobs(logits, following[rows], [num_top] * len(logits))
    sequence.num_prompt_logprobs += len(found)
    return found
