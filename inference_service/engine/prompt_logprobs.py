"""The logprobs of a prompt's own tokens, found chunk by chunk while the prompt is run."""

from dataclasses import dataclass

import torch

from inference_service.engine.device_copy import HostCopy, to_device
from inference_service.engine.logprobs import LogprobCopy, copy_logprobs
from inference_service.engine.model_runner import ModelRunner
from inference_service.engine.request import TokenLogprob
from inference_service.engine.row_slices import row_slices
from inference_service.engine.step_plan import ScheduledChunk


@dataclass(frozen=True)
class PromptLogprobCopy:
    """A chunk's logprobs on their way to the host: one part for each slice of rows."""

    finite: HostCopy
    parts: list[LogprobCopy]

    def wait(self) -> list[TokenLogprob] | None:
        """None when some logits are not finite."""
        if not all(bool(flag) for flag in self.finite.wait()):
            return None
        return [found for part in self.parts for found in part.wait()]


@torch.inference_mode()
def copy_prompt_logprobs(
    runner: ModelRunner, chunk: ScheduledChunk, hidden: torch.Tensor
) -> PromptLogprobCopy:
    """What `chunk`, whose hidden states are `hidden`, tells about prompt tokens not told of before.

    The row of a token tells of the one after it, so the first token has no logprobs. Logits are
    made a slice at a time.
    """
    sequence = chunk.sequence
    num_top = sequence.sampling.prompt_logprobs
    assert num_top is not None
    first = max(chunk.start, sequence.num_prompt_logprobs)
    last = min(chunk.end, sequence.num_prompt - 1)
    following = torch.tensor(sequence.token_ids[first + 1 : last + 1])
    following = to_device(following, hidden.device)
    finite: list[torch.Tensor] = []
    parts: list[LogprobCopy] = []
    for rows in row_slices(max(0, last - first), runner.spec.vocab_size):
        logits = runner.logits(hidden[first - chunk.start :][rows])
        finite.append(logits.isfinite().all())
        parts.append(copy_logprobs(logits, following[rows], [num_top] * len(logits)))
    sequence.num_prompt_logprobs = max(sequence.num_prompt_logprobs, last)
    return PromptLogprobCopy(HostCopy(finite), parts)
