"""Runs what the scheduler chose: forward pass, sampling, and what each token means."""

from inference_service.engine.adapter_cache import AdapterCache
from inference_service.engine.block_manager import BlockManager
from inference_service.engine.model_runner import ModelRunner, StepInput
from inference_service.engine.readiness import Refusal
from inference_service.engine.request import TokenOutput
from inference_service.engine.sampler import sample
from inference_service.engine.scheduler import ScheduledChunk, Scheduler
from inference_service.engine.sequence import Sequence


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
        """One step of at least one chunk; the output of every sequence that got a token."""
        self._num_steps += 1
        logits = self._runner.run([self._step_input(chunk) for chunk in chunks]).logits
        sampling = [chunk.sequence for chunk in chunks if chunk.samples]
        for chunk in chunks:
            chunk.sequence.num_computed += chunk.num_tokens
        if not sampling:
            return []
        finite = logits.isfinite().all(dim=-1).tolist()
        outputs = [self._give_up(s) for s, sound in zip(sampling, finite, strict=True) if not sound]
        if outputs:
            logits = logits[finite]
            sampling = [s for s, sound in zip(sampling, finite, strict=True) if sound]
        token_ids = sample(logits, sampling)
        outputs += [self._advance(s, token) for s, token in zip(sampling, token_ids, strict=True)]
        return outputs

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

    def _give_up(self, sequence: Sequence) -> TokenOutput:
        """Finite weights can still be so large that they overflow on the way."""
        self._scheduler.finish(sequence)
        message = (
            "the model's output is infinite or not a number: the adapter's weights are too large"
        )
        return refused(sequence, Refusal("OUTPUT_NOT_FINITE", message))

    def _advance(self, sequence: Sequence, token_id: int) -> TokenOutput:
        finish_reason = sequence.append(token_id)
        if finish_reason:
            self._scheduler.finish(sequence)
        num_cached = sequence.num_cached if sequence.num_output == 1 else 0
        return TokenOutput(sequence.request_id, [token_id], finish_reason, num_cached=num_cached)


def refused(sequence: Sequence, refusal: Refusal) -> TokenOutput:
    """The last output of a sequence the engine cannot go on with."""
    return TokenOutput(sequence.request_id, [], refusal=refusal.reason, error=refusal.message)
