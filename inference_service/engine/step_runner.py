"""Runs what the scheduler chose: forward pass, sampling, and what each token means."""

from dataclasses import dataclass, field

import torch

from inference_service.engine.adapter_cache import AdapterCache
from inference_service.engine.block_manager import BlockManager
from inference_service.engine.logprobs import token_logprobs
from inference_service.engine.model_runner import ModelRunner
from inference_service.engine.prompt_logprobs import prompt_logprobs
from inference_service.engine.readiness import Refusal
from inference_service.engine.request import TokenLogprob, TokenOutput
from inference_service.engine.sampler import sample
from inference_service.engine.scheduler import Scheduler
from inference_service.engine.sequence import Sequence
from inference_service.engine.step_input import StepInput
from inference_service.engine.step_plan import ScheduledChunk


@dataclass
class _Found:
    """What a step found out for one sequence."""

    is_finite: bool = True
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)


class StepRunner:
    """Runs one batch at a time and tells the scheduler which sequences have ended."""

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
        """Batches run so far."""
        return self._num_steps

    def run(self, chunks: list[ScheduledChunk]) -> list[TokenOutput]:
        """One step of at least one chunk; the output of every sequence that has one."""
        self._num_steps += 1
        result = self._runner.run([self._step_input(chunk) for chunk in chunks])
        found = {chunk.sequence: _Found() for chunk in chunks}
        self._find_prompt_logprobs(chunks, result.hidden, found)
        sampling = [chunk.sequence for chunk in chunks if chunk.samples]
        if sampling:
            _find_tokens(result.logits, sampling, found)
        for chunk in chunks:
            chunk.sequence.num_computed += chunk.num_tokens
        outputs = [self._output(sequence, what) for sequence, what in found.items()]
        return [output for output in outputs if output is not None]

    def _step_input(self, chunk: ScheduledChunk) -> StepInput:
        sequence, start = chunk.sequence, chunk.sequence.num_computed
        digest = sequence.adapter_digest
        return StepInput(
            token_ids=sequence.token_ids[start : start + chunk.num_tokens],
            start=start,
            table=self._blocks.table(sequence.request_id),
            adapter=self._cache.get(digest) if digest else None,
            samples=chunk.samples,
        )

    def _find_prompt_logprobs(
        self, chunks: list[ScheduledChunk], hidden: torch.Tensor, found: dict[Sequence, _Found]
    ) -> None:
        start = 0
        for chunk in chunks:
            if chunk.sequence.needs_prompt_logits:
                rows = hidden[start : start + chunk.num_tokens]
                logprobs = prompt_logprobs(self._runner, chunk, rows)
                found[chunk.sequence].is_finite = logprobs is not None
                found[chunk.sequence].prompt_logprobs = logprobs or []
            start += chunk.num_tokens

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
        self._scheduler.finish(sequence)
        message = (
            "the model's output is infinite or not a number: the adapter's weights are too large"
        )
        return refused(sequence.request_id, Refusal("OUTPUT_NOT_FINITE", message))


def refused(request_id: int, refusal: Refusal) -> TokenOutput:
    """The last output of a request the engine cannot go on with."""
    return TokenOutput(request_id, [], refusal=refusal.reason, error=refusal.message)


@torch.inference_mode()
def _find_tokens(
    logits: torch.Tensor, sequences: list[Sequence], found: dict[Sequence, _Found]
) -> None:
    """Samples from logits [S, vocab], which may be overwritten, once nothing else needs them."""
    rows = [row for row, s in enumerate(sequences) if s.sampling.logprobs is not None]
    unedited = logits[rows] if rows else logits
    finite = logits.amax(dim=-1).isfinite() & logits.amin(dim=-1).isfinite()
    token_ids = sample(logits, sequences)
    for sequence, token_id, is_finite in zip(
        sequences, *torch.stack([token_ids, finite.long()]).tolist(), strict=True
    ):
        found[sequence].token_ids = [token_id]
        found[sequence].is_finite &= bool(is_finite)
    if rows:
        num_top = [sequences[row].sampling.logprobs or 0 for row in rows]
        for row, logprob in zip(
            rows, token_logprobs(unedited, token_ids[rows], num_top), strict=True
        ):
            found[sequences[row]].logprobs = [logprob]
