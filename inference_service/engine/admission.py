"""The requests that wait, and how one of them comes to run."""

from collections.abc import Callable, Collection, Iterator, KeysView
from typing import TYPE_CHECKING

from inference_service.engine.block_manager import BlockManager
from inference_service.engine.fair_queue import FairQueue
from inference_service.engine.readiness import Readiness, Refusal
from inference_service.engine.sequence import Sequence

if TYPE_CHECKING:
    from inference_service.engine.adapter_manager import AdapterManager
    from inference_service.engine.arena_memory import ArenaMemory


class Admission:
    """A sequence waits in `waiting` until it has its adapter and its first pages: then it runs.

    `candidates` says who is next, `start` gives it what it needs, and `end` takes that back.

    A sequence whose adapter is still loading is passed over. One whose adapter only lacks pages
    is passed over `max_overtakes` times; then it holds back all behind it, so that its pages
    cannot be taken for ever.
    """

    def __init__(
        self,
        blocks: BlockManager,
        adapters: "AdapterManager",
        memory: "ArenaMemory",
        max_overtakes: int = 16,
    ) -> None:
        self._blocks, self._adapters, self._memory = blocks, adapters, memory
        self._max_overtakes = max_overtakes
        self.waiting = FairQueue()
        self.has_passed_over = False  # when last asked for candidates, one that only lacked pages
        self.num_prefix_queries = 0  # tokens of sequences that started, and those found cached
        self.num_prefix_hits = 0

    @property
    def awaited_adapters(self) -> KeysView[str]:
        """The digests that sequences wait with; "" when some wait for the base model."""
        return self.waiting.adapters

    def num_users(self, digest: str) -> int:
        """Sequences, waiting or running, of an adapter."""
        resident = self._adapters.cache.get(digest)
        return self.waiting.num_waiting(digest) + (resident.num_users if resident else 0)

    def why_never(self, digest: str, max_num_tokens: int) -> Refusal | None:
        """What keeps a request from ever running, by what is known now.

        `max_num_tokens`: what needs room for its KV in the end.
        """
        refusal = self._adapters.refusal(digest) if digest else None
        if refusal is not None:
            return refusal
        needed = self._blocks.num_pages(max_num_tokens) + self._adapters.num_pages(digest)
        available = self._memory.num_pages - self._adapters.cache.num_pinned_pages(besides=digest)
        if needed <= available:
            return None
        message = f"the request may need {needed} pages, the arena has {available} for it"
        return Refusal("OUT_OF_PAGES", message)

    def refuse(self, digests: Collection[str]) -> list[tuple[Sequence, Refusal]]:
        """Takes out the waiting sequences of these adapters that can never run, and says why."""
        refused: list[tuple[Sequence, Refusal]] = []
        if not digests:
            return refused
        for sequence in [s for s in self.waiting if s.adapter_digest in digests]:
            refusal = self.why_never(sequence.adapter_digest, sequence.max_num_tokens)
            if refusal is not None:
                self.waiting.remove(sequence)
                refused.append((sequence, refusal))
        return refused

    def candidates(self, may_start: Callable[[str], bool]) -> Iterator[Sequence]:
        """Waiting sequences, in order, whose adapter is resident; of tenants that `may_start`,
        which is asked before each. The caller starts each, or stops here."""
        self.has_passed_over = False
        passed: list[Sequence] = []
        for sequence in self.waiting.in_order(may_start):
            readiness = self._prepare(sequence)
            if readiness is Readiness.RESIDENT:
                yield sequence
                for other in passed:
                    other.num_overtaken += 1
            elif readiness is Readiness.NO_ROOM:
                self.has_passed_over = True
                if sequence.num_overtaken >= self._max_overtakes:
                    return
                passed.append(sequence)
            if any(other.num_overtaken >= self._max_overtakes for other in passed):
                return

    def _prepare(self, sequence: Sequence) -> Readiness:
        if not sequence.adapter_digest:
            return Readiness.RESIDENT
        return self._adapters.prepare(sequence.adapter_digest, self.waiting.adapters)

    def start(self, sequence: Sequence, max_tokens: int) -> bool:
        """Takes a sequence out of `waiting`, with its adapter held, the prefix that was cached,
        and pages for up to `max_tokens` more. False, and it waits on, if there are no pages."""
        self._hold_adapter(sequence)
        num_cached = self._blocks.adopt_prefix(sequence)
        length = num_cached + min(sequence.num_tokens - num_cached, max_tokens)
        if not self._memory.make_room(self._blocks.num_missing(sequence.request_id, length)):
            self._let_go(sequence)
            return False
        self._blocks.extend(sequence.request_id, length)
        sequence.start(num_cached)
        self.num_prefix_queries += sequence.num_tokens
        self.num_prefix_hits += num_cached
        self.waiting.remove(sequence)
        return True

    def end(self, sequence: Sequence) -> None:
        """Lets go of the pages and the adapter of a sequence that ran; what is full is cached."""
        self._blocks.seal(sequence)
        self._let_go(sequence)

    def _hold_adapter(self, sequence: Sequence) -> None:
        if sequence.adapter_digest:
            self._adapters.cache.acquire(sequence.adapter_digest)

    def _let_go(self, sequence: Sequence) -> None:
        self._blocks.release(sequence.request_id)
        if sequence.adapter_digest:
            self._adapters.cache.release(sequence.adapter_digest)
