"""Continuous batching: which tokens of which sequences run in the next step. No torch here."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inference_service.engine.admission import Admission
from inference_service.engine.block_manager import BlockManager
from inference_service.engine.sequence import Sequence
from inference_service.engine.sharing import Sharing
from inference_service.engine.step_plan import ScheduledChunk, StepPlan

if TYPE_CHECKING:
    from inference_service.engine.arena_memory import ArenaMemory


@dataclass(frozen=True)
class SchedulerLimits:
    max_num_seqs: int
    max_num_batched_tokens: int


class Scheduler:
    """Decodes go before prefills; long prompts are cut up; an Admission says who begins.

    Owns the running sequences, and takes their pages from each other where there are too few.
    """

    def __init__(
        self,
        admission: Admission,
        blocks: BlockManager,
        memory: "ArenaMemory",
        limits: SchedulerLimits,
    ) -> None:
        self._admission, self._waiting = admission, admission.waiting
        self._blocks, self._memory, self._limits = blocks, memory, limits
        self._running: dict[int, Sequence] = {}  # in order of admission
        self.sharing = Sharing(limits.max_num_seqs)
        self._has_yielded = False
        self._is_short_of_pages = False
        self.num_preemptions = 0

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def is_short_of_pages(self) -> bool:
        """Whether a sequence was preempted for pages in the step chosen last, or sat it out.

        Nobody is preempted while its token, or another's, is on its way: the tokens are to arrive
        before the next step is chosen.
        """
        return self._is_short_of_pages

    def has(self, request_id: int) -> bool:
        return request_id in self._running or self._waiting.get(request_id) is not None

    def holds(self, sequence: Sequence) -> bool:
        """Whether it runs or waits, and has not ended."""
        request_id = sequence.request_id
        if self._running.get(request_id) is sequence:
            return True
        return self._waiting.get(request_id) is sequence

    def add(self, sequence: Sequence) -> None:
        self.sharing.came(sequence.tenant, sequence.weight)
        is_absent = not self.sharing.has_place(sequence.tenant)
        self._waiting.add(sequence, is_tenant_absent=is_absent)

    def abort(self, request_id: int) -> None:
        """Frees everything of a sequence; one that has already ended is no error."""
        if running := self._running.get(request_id):
            self.finish(running)
        elif waiting := self._waiting.get(request_id):
            self._waiting.remove(waiting)

    def finish(self, sequence: Sequence) -> None:
        """Lets go of the pages and the adapter of a running sequence."""
        del self._running[sequence.request_id]
        self.sharing.ended(sequence.tenant)
        self._admission.end(sequence)

    def schedule(self) -> list[ScheduledChunk]:
        """The next step; empty when nothing can run now."""
        step = StepPlan(self._limits.max_num_batched_tokens)
        self._choose(step)
        self.sharing.left_waiting(self._waiting.tenants)
        return step.chunks

    def _choose(self, step: StepPlan) -> None:
        """Decodes, then prompts; where a prompt calls, others' decodes sit the step out, but once.

        Admits nothing where pages ran out: that would only take turns at them.
        """
        self._is_short_of_pages = False
        staying, yielding, prefilling, owing = self._running_by_urgency()
        may_call = self.sharing.is_shared and not self._admission.has_passed_over
        calling = self._calling(prefilling) if may_call else set()
        yields_to = calling if yielding and not self._has_yielded else set()
        self._continue([s for s in staying if s.tenant not in yields_to], step)
        if yields_to and not self._is_short_of_pages:
            called = [s for s in prefilling if s.tenant in yields_to]
            self._has_yielded = self._add_prompts(called, yields_to, step)
        else:
            self._has_yielded = False
        if self._has_yielded:
            return
        own = [s for s in staying if s.tenant in yields_to]
        self._continue([*own, *yielding], step)
        self._add_prompts(prefilling, calling, step)
        self._admit(step)
        self._continue(owing, step)

    def _running_by_urgency(self) -> tuple[list[Sequence], ...]:
        """Those that decode, apart those that may be left out once; those with more of their prompt
        to compute, of tenants served least first, apart those of tenants served more than one that
        waits.

        None that only waits for its last token to arrive.
        """
        groups: tuple[list[Sequence], ...] = ([], [], [], [])
        staying, yielding, prefilling, owing = groups
        running = [s for s in self._running.values() if not s.awaits_its_last]
        num_decoding = sum(s.num_uncomputed == 1 for s in running)
        for sequence in running:
            tenant = sequence.tenant
            if sequence.num_uncomputed == 1:
                yields = self.sharing.yields(tenant, num_decoding)
                (yielding if yields else staying).append(sequence)
            else:
                (owing if self._waiting.owes(tenant) else prefilling).append(sequence)
        for group in (prefilling, owing):
            group.sort(key=lambda sequence: self._waiting.served(sequence.tenant))
        return groups

    def _calling(self, prefilling: list[Sequence]) -> set[str]:
        """Tenants below their share that have prompts to begin or to continue, and were served no
        more than those who wait with a share of their own."""
        served, is_below_share = self._waiting.served, self.sharing.is_below_share
        waiting = self._waiting.tenants
        least = min((served(t) for t in waiting if not is_below_share(t)), default=math.inf)
        tenants = {*waiting, *(sequence.tenant for sequence in prefilling)}
        return {t for t in tenants if is_below_share(t) and served(t) <= least}

    def _add_prompts(self, prefilling: list[Sequence], calling: set[str], step: StepPlan) -> bool:
        """Those that have begun, and new ones of tenants that call; whether there is any.

        A new one goes before the long ones of others.
        """
        num_chunks = len(step.chunks)
        with_long_ones = {sequence.tenant for sequence in prefilling}
        self._admit(step, (calling - with_long_ones).__contains__)
        self._continue(prefilling, step)
        self._admit(step, calling.__contains__)
        return len(step.chunks) > num_chunks

    def _continue(self, sequences: list[Sequence], step: StepPlan) -> None:
        """Adds the next tokens of running sequences."""
        for sequence in sequences:
            room = step.max_tokens - step.num_tokens
            if sequence.num_uncomputed > 1:
                room = self._room(sequence.tenant, step, is_begun=True)
            num_tokens = min(sequence.num_uncomputed, room)
            if num_tokens <= 0 or sequence.request_id not in self._running:
                continue  # no room left, or preempted a moment ago
            if self._extend(sequence, num_tokens, step.chunks):
                self._add(sequence, num_tokens, step)

    def _admit(self, step: StepPlan, is_meant: Callable[[str], bool] = lambda _: True) -> None:
        """Adds the first tokens of waiting sequences, of the tenants that are meant."""
        if self._is_short_of_pages or step.is_closed:
            return

        def may_start(tenant: str) -> bool:
            may = is_meant(tenant) and self._room(tenant, step, is_begun=False) > 0
            return may and self.sharing.may_start(tenant, self._is_served_least)

        for sequence in self._admission.candidates(may_start):
            room = self._room(sequence.tenant, step, is_begun=False)
            if not self._admission.start(sequence, room):
                step.is_closed = True
                break
            self._running[sequence.request_id] = sequence
            self.sharing.started(sequence.tenant)
            self._add(sequence, min(sequence.num_uncomputed, room), step)

    def _is_served_least(self, tenant: str) -> bool:
        return self._waiting.is_served_least(tenant, self.sharing.tenants)

    def _room(self, tenant: str, step: StepPlan, *, is_begun: bool) -> int:
        """For how many more tokens the step has room, of a prompt of the tenant."""
        most = self.sharing.max_step_tokens(
            tenant, step.max_tokens, step.num_decoding, is_begun=is_begun
        )
        return most - step.num_tokens

    def _extend(self, sequence: Sequence, num_tokens: int, chunks: list[ScheduledChunk]) -> bool:
        """Pages for the next tokens of a running sequence, if need be from one admitted later.

        False when there are none: it was preempted itself, or sits this step out.
        """
        self._blocks.seal(sequence)
        length = sequence.num_computed + num_tokens
        while num_missing := self._blocks.num_missing(sequence.request_id, length):
            if self._memory.make_room(num_missing):
                self._blocks.extend(sequence.request_id, length)
                break
            self._is_short_of_pages = True
            if any(other.num_pending for other in self._running.values()):
                return False
            victim = self._victim(chunks)
            self._preempt(victim)
            if victim is sequence:
                return False
        return True

    def _victim(self, chunks: list[ScheduledChunk]) -> Sequence:
        """Not in this step yet, least urgent, admitted last; there is always one."""
        scheduled = {chunk.sequence.request_id for chunk in chunks}
        candidates = [s for s in self._running.values() if s.request_id not in scheduled]
        return max(reversed(candidates), key=lambda sequence: sequence.priority)

    def _preempt(self, sequence: Sequence) -> None:
        self.finish(sequence)
        sequence.num_computed = 0
        self.num_preemptions += 1
        self._waiting.add(sequence)

    def _add(self, sequence: Sequence, num_tokens: int, step: StepPlan) -> None:
        """The next tokens of a running sequence, at its tenant's cost."""
        chunk = ScheduledChunk.next_of(sequence, num_tokens)
        self._waiting.charge(sequence.tenant, chunk.cost)
        sequence.num_charged = max(sequence.num_charged, chunk.end)
        step.add(chunk)

    def take_back(self, chunk: ScheduledChunk) -> None:
        """Its sequence ended before the step: nobody is charged for what it computes."""
        self._waiting.charge(chunk.sequence.tenant, -chunk.cost)
