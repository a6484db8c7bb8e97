"""Continuous batching: which tokens of which sequences run in the next step. No torch here."""

from collections.abc import Iterator
from dataclasses import dataclass

from inference_service.engine.adapter_manager import AdapterManager, Readiness
from inference_service.engine.block_manager import BlockManager
from inference_service.engine.fair_queue import OUTPUT_COST, PROMPT_COST, FairQueue
from inference_service.engine.sequence import Sequence


@dataclass(frozen=True)
class ScheduledChunk:
    """The next `num_tokens` uncomputed tokens of a sequence."""

    sequence: Sequence
    num_tokens: int

    @property
    def samples(self) -> bool:
        """Whether the step ends with a new token for this sequence."""
        return self.num_tokens == self.sequence.num_uncomputed


class Scheduler:
    """Admits in the order of a FairQueue. Decodes go before prefills; long prompts are cut up.

    A sequence whose adapter is still loading is passed over; one whose adapter is loaded and only
    lacks pages holds back all behind it, so that its pages cannot be taken for ever.
    """

    def __init__(
        self,
        blocks: BlockManager,
        adapters: AdapterManager,
        max_num_seqs: int,
        max_num_batched_tokens: int,
    ) -> None:
        self._blocks, self._adapters = blocks, adapters
        self._max_num_seqs = max_num_seqs
        self._max_num_batched_tokens = max_num_batched_tokens
        self._waiting = FairQueue()
        self._running: list[Sequence] = []

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def wanted_adapters(self) -> set[str]:
        return {sequence.adapter_digest for sequence in self._waiting}

    def num_users(self, digest: str) -> int:
        """Sequences, waiting or running, of an adapter."""
        return sum(s.adapter_digest == digest for s in (*self._waiting, *self._running))

    def add(self, sequence: Sequence) -> None:
        self._waiting.add(sequence)

    def abort(self, request_id: int) -> None:
        """Frees everything of a sequence; one that has already ended is no error."""
        for sequence in self._running:
            if sequence.request_id == request_id:
                self.finish(sequence)
                return
        for sequence in self._waiting:
            if sequence.request_id == request_id:
                self._waiting.remove(sequence)
                return

    def finish(self, sequence: Sequence) -> None:
        """Frees the pages of a running sequence and lets go of its adapter."""
        self._running.remove(sequence)
        self._release(sequence)

    def remove_failed(self) -> list[Sequence]:
        """Takes out the waiting sequences whose adapter cannot be loaded."""
        failed = [s for s in self._waiting if self._adapters.has_failed(s.adapter_digest)]
        for sequence in failed:
            self._waiting.remove(sequence)
        return failed

    def schedule(self) -> list[ScheduledChunk]:
        """The next step; empty when nothing can run now."""
        chunks: list[ScheduledChunk] = []
        budget = self._max_num_batched_tokens
        num_waiting = self.num_waiting
        for sequence in self._in_priority():
            num_tokens = min(sequence.num_uncomputed, budget)
            if num_tokens == 0 or sequence not in self._running:
                continue  # no budget left, or preempted a moment ago
            if self._extend(sequence, num_tokens, chunks):
                chunks.append(self._charged(ScheduledChunk(sequence, num_tokens)))
                budget -= num_tokens
        if self.num_waiting > num_waiting:
            return chunks  # admitting right after a preemption would only take turns at it
        for sequence in self._admit():
            num_tokens = min(sequence.num_uncomputed, budget)
            if num_tokens == 0 or not self._start(sequence, num_tokens):
                break
            chunks.append(self._charged(ScheduledChunk(sequence, num_tokens)))
            budget -= num_tokens
        return chunks

    def _in_priority(self) -> list[Sequence]:
        """Running sequences, those that decode first; otherwise in order of admission."""
        return sorted(self._running, key=lambda sequence: sequence.num_uncomputed > 1)

    def _extend(self, sequence: Sequence, num_tokens: int, chunks: list[ScheduledChunk]) -> bool:
        """Pages for the next tokens of a running sequence, if need be from one admitted later."""
        length = sequence.num_computed + num_tokens
        while not self._adapters.make_room(self._blocks.num_missing(sequence.request_id, length)):
            victim = self._victim(chunks)
            self._preempt(victim)
            if victim is sequence:
                return False
        self._blocks.extend(sequence.request_id, length)
        return True

    def _victim(self, chunks: list[ScheduledChunk]) -> Sequence:
        """The sequence admitted last that is not in this step yet; there is always one."""
        scheduled = {chunk.sequence.request_id for chunk in chunks}
        return next(s for s in reversed(self._running) if s.request_id not in scheduled)

    def _preempt(self, sequence: Sequence) -> None:
        self.finish(sequence)
        sequence.num_computed = 0
        self._waiting.add_first(sequence)

    def _admit(self) -> Iterator[Sequence]:
        """Waiting sequences, in order, whose adapter is resident."""
        for sequence in self._waiting.in_order():
            if len(self._running) >= self._max_num_seqs:
                return
            if sequence.adapter_digest:
                readiness = self._adapters.prepare(sequence.adapter_digest)
                if readiness is Readiness.NO_ROOM:
                    return
                if readiness is not Readiness.RESIDENT:
                    continue
            yield sequence

    def _start(self, sequence: Sequence, num_tokens: int) -> bool:
        """Moves a waiting sequence to the running ones, if its first pages can be had."""
        if sequence.adapter_digest:
            self._adapters.cache.acquire(sequence.adapter_digest)
        if not self._adapters.make_room(self._blocks.num_pages(num_tokens)):
            if sequence.adapter_digest:
                self._adapters.cache.release(sequence.adapter_digest)
            return False
        self._blocks.extend(sequence.request_id, num_tokens)
        self._waiting.remove(sequence)
        self._running.append(sequence)
        return True

    def _charged(self, chunk: ScheduledChunk) -> ScheduledChunk:
        """Charges a chunk to its tenant, but for tokens recomputed after a preemption."""
        sequence = chunk.sequence
        end = sequence.num_computed + chunk.num_tokens
        start = max(sequence.num_computed, sequence.num_charged)
        num_prompt = max(0, min(end, sequence.num_prompt) - start)
        num_output = max(0, end - start - num_prompt)
        cost = PROMPT_COST * num_prompt + OUTPUT_COST * num_output
        self._waiting.charge(sequence.tenant, cost)
        sequence.num_charged = max(sequence.num_charged, end)
        return chunk

    def _release(self, sequence: Sequence) -> None:
        self._blocks.release(sequence.request_id)
        if sequence.adapter_digest:
            self._adapters.cache.release(sequence.adapter_digest)
