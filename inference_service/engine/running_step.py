"""A step on its way through the device. See StepRunner for its three stages."""

from dataclasses import dataclass

import torch

from inference_service.engine.bucket_runner import StepResult
from inference_service.engine.device_copy import HostCopy
from inference_service.engine.logprobs import LogprobCopy
from inference_service.engine.prompt_logprobs import PromptLogprobCopy
from inference_service.engine.sequence import Sequence
from inference_service.engine.step_plan import ScheduledChunk


@dataclass(frozen=True)
class ForwardStep:
    """Its forward pass was launched, at `began` by time.perf_counter; nothing is sampled yet."""

    chunks: list[ScheduledChunk]
    result: StepResult
    began: float


@dataclass(frozen=True)
class SampledTokens:
    """One token for each sequence that samples, in rows: `token_ids` [S] int64, on the device.

    `arriving`: on their way to the host, [2, S], the ids above whether each one's logits are
    finite. `logprobs`: of the sequences `with_logprobs`, in their order.
    """

    sequences: list[Sequence]
    rows: dict[Sequence, int]
    token_ids: torch.Tensor
    arriving: HostCopy
    with_logprobs: list[Sequence]
    logprobs: LogprobCopy


@dataclass(frozen=True)
class SampledStep:
    """Everything of it was launched; what it found is on its way to the host.

    `tokens`: None when no sequence samples.
    """

    chunks: list[ScheduledChunk]
    began: float
    tokens: SampledTokens | None
    prompt_logprobs: dict[Sequence, PromptLogprobCopy]
