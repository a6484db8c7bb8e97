"""Runs what the scheduler chose: forward pass, sampling, and what each token means.

A step has three stages, in this order:

- `forward` launches the pass. A token that the step before sampled is read on the device.
- `sample` launches the sampling, and the copy of what it finds. It goes by the tokens so far
  (penalties, min_tokens, the counter of random numbers), so the step before is to be finished.
- `finish` waits for the copy and says what it means.

The device is waited for in `finish` alone, so between `forward` and `sample` there is time for
`finish` of the step before: see StepPipe. Sequences that this ends are still in the step; what is
found for them is thrown away.
"""

import time
from collections.abc import Sequence as Series
from dataclasses import dataclass, field

import torch

from inference_service.engine.adapter_cache import AdapterCache
from inference_service.engine.block_manager import BlockManager
from inference_service.engine.device_copy import HostCopy, to_device
from inference_service.engine.logprobs import LogprobCopy, copy_logprobs
from inference_service.engine.model_runner import ModelRunner
from inference_service.engine.prompt_logprobs import PromptLogprobCopy, copy_prompt_logprobs
from inference_service.engine.readiness import Refusal
from inference_service.engine.request import TokenLogprob, TokenOutput
from inference_service.engine.running_step import ForwardStep, SampledStep, SampledTokens
from inference_service.engine.sampler import sample
from inference_service.engine.scheduler import Scheduler
from inference_service.engine.sequence import Sequence
from inference_service.engine.step_input import StepInput, stand_in
from inference_service.engine.step_plan import ScheduledChunk


@dataclass
class _Found:
    """What a step found out for one sequence."""

    is_finite: bool = True
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)


class StepRunner:
    """Runs steps stage by stage and tells the scheduler which sequences have ended."""

    def __init__(
        self,
        runner: ModelRunner,
        blocks: BlockManager,
        cache: AdapterCache,
        scheduler: Scheduler,
    ) -> None:
        self._runner, self._blocks, self._cache = runner, blocks, cache
        self._scheduler = scheduler
        self._num_steps = 0

    @property
    def num_steps(self) -> int:
        """Batches launched so far."""
        return self._num_steps

    def forward(self, chunks: list[ScheduledChunk], before: SampledStep | None) -> ForwardStep:
        """Launches a step of at least one chunk, after `before` if that is not finished yet."""
        began = time.perf_counter()
        self._num_steps += 1
        tokens = before.tokens if before is not None else None
        inputs = [self._step_input(chunk, tokens) for chunk in chunks]
        result = self._runner.run(inputs, tokens.token_ids if tokens is not None else None)
        return ForwardStep(chunks, result, began)

    def sample(self, step: ForwardStep) -> SampledStep:
        """Launches the rest of it; its sequences are one token further, which is pending."""
        for chunk in step.chunks:
            if not self._scheduler.holds(chunk.sequence):
                self._scheduler.take_back(chunk)
        logprobs = self._copy_prompt_logprobs(step)
        sampling = [chunk.sequence for chunk in step.chunks if chunk.samples]
        tokens = _sample(step.result.logits, sampling) if sampling else None
        for chunk in step.chunks:
            chunk.sequence.num_computed = chunk.end
            chunk.sequence.num_pending = int(chunk.samples)
        return SampledStep(step.chunks, step.began, tokens, logprobs)

    def finish(self, step: SampledStep) -> list[TokenOutput]:
        """The output of every sequence that has one, and has not ended meanwhile."""
        found = {chunk.sequence: _Found() for chunk in step.chunks}
        for sequence, copy in step.prompt_logprobs.items():
            logprobs = copy.wait()
            found[sequence].is_finite = logprobs is not None
            found[sequence].prompt_logprobs = logprobs or []
        if step.tokens is not None:
            _take_tokens(step.tokens, found)
        outputs = [self._output(s, what) for s, what in found.items() if self._scheduler.holds(s)]
        return [output for output in outputs if output is not None]

    def _step_input(self, chunk: ScheduledChunk, before: SampledTokens | None) -> StepInput:
        sequence = chunk.sequence
        token_ids = sequence.token_ids[chunk.start : chunk.end]
        if len(token_ids) < chunk.num_tokens:
            assert before is not None
            token_ids.append(stand_in(before.rows[sequence]))
        digest = sequence.adapter_digest
        return StepInput(
            token_ids=token_ids,
            start=chunk.start,
            table=self._blocks.table(sequence.request_id),
            adapter=self._cache.get(digest) if digest else None,
            samples=chunk.samples,
        )

    def _copy_prompt_logprobs(self, step: ForwardStep) -> dict[Sequence, PromptLogprobCopy]:
        found: dict[Sequence, PromptLogprobCopy] = {}
        start = 0
        for chunk in step.chunks:
            if chunk.sequence.needs_prompt_logits:
                rows = step.result.hidden[start : start + chunk.num_tokens]
                found[chunk.sequence] = copy_prompt_logprobs(self._runner, chunk, rows)
            start += chunk.num_tokens
        return found

    def _output(self, sequence: Sequence, found: _Found) -> TokenOutput | None:
        """What to send, with the sequence moved on; None when the step only filled its KV."""
        if not found.is_finite:
            return self._give_up(sequence)
        if not (found.token_ids or found.prompt_logprobs):
            return None
        finish_reason = ""
        for token_id in found.token_ids:
            finish_reason = sequence.append(token_id)
        if finish_reason:
            self._scheduler.finish(sequence)
        is_first = sequence.num_output == 1
        return TokenOutput(
            sequence.request_id,
            found.token_ids,
            finish_reason,
            num_cached=sequence.num_cached if is_first else 0,
            queue_seconds=sequence.queue_seconds if is_first else 0.0,
            logprobs=found.logprobs,
            prompt_logprobs=found.prompt_logprobs,
        )

    def _give_up(self, sequence: Sequence) -> TokenOutput:
        """Finite weights can still be so large that they overflow on the way."""
        self._scheduler.abort(sequence.request_id)
        message = (
            "the model's output is infinite or not a number: the adapter's weights are too large"
        )
        return refused(sequence.request_id, Refusal("OUTPUT_NOT_FINITE", message))


def refused(request_id: int, refusal: Refusal) -> TokenOutput:
    """The last output of a request the engine cannot go on with."""
    return TokenOutput(request_id, [], refusal=refusal.reason, error=refusal.message)


@torch.inference_mode()
def _sample(logits: torch.Tensor, sequences: list[Sequence]) -> SampledTokens:
    """From logits [S, vocab], which may be overwritten, once nothing else needs them."""
    rows = [row for row, s in enumerate(sequences) if s.sampling.logprobs is not None]
    unedited = _rows_of(logits, rows) if rows else logits
    finite = logits.amax(dim=-1).isfinite() & logits.amin(dim=-1).isfinite()
    token_ids = sample(logits, sequences)
    num_top = [sequences[row].sampling.logprobs or 0 for row in rows]
    return SampledTokens(
        sequences,
        {sequence: row for row, sequence in enumerate(sequences)},
        token_ids,
        HostCopy([torch.stack([token_ids, finite.long()])]),
        [sequences[row] for row in rows],
        copy_logprobs(unedited, _rows_of(token_ids, rows), num_top) if rows else LogprobCopy([]),
    )


def _rows_of(tensor: torch.Tensor, rows: Series[int]) -> torch.Tensor:
    return tensor.index_select(0, to_device(torch.tensor(rows), tensor.device))


def _take_tokens(tokens: SampledTokens, found: dict[Sequence, _Found]) -> None:
    """Waits for them, for all that is found out about the sequences that sample."""
    (arrived,) = tokens.arriving.wait()
    for sequence, token_id, is_finite in zip(tokens.sequences, *arrived.tolist(), strict=True):
        found[sequence].token_ids = [token_id]
        found[sequence].is_finite &= bool(is_finite)
    for sequence, logprob in zip(tokens.with_logprobs, tokens.logprobs.wait(), strict=True):
        found[sequence].logprobs = [logprob]
