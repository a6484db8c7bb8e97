"""The scheduler and the memory under it without a model: every step samples token 1, or a stop
token where it is told to."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import torch

from inference_service.engine.adapter_cache import AdapterCache
from inference_service.engine.adapter_loader import AdapterLoader, AdapterSource, LoadedImage
from inference_service.engine.adapter_manager import AdapterManager
from inference_service.engine.admission import Admission
from inference_service.engine.arena_memory import ArenaMemory
from inference_service.engine.block_manager import BlockManager
from inference_service.engine.eviction import EvictionQueue, RebuildCosts
from inference_service.engine.fair_queue import OUTPUT_COST, PROMPT_COST
from inference_service.engine.host_tier import HostTier
from inference_service.engine.page_copier import HostPageCopier
from inference_service.engine.page_image import PageImage
from inference_service.engine.page_pool import PagePool
from inference_service.engine.prefix_cache import PrefixCache, PrefixKeys
from inference_service.engine.readiness import Refusal
from inference_service.engine.request import SamplingOptions, Submit
from inference_service.engine.scheduler import Scheduler, SchedulerLimits
from inference_service.engine.sequence import Sequence
from inference_service.engine.step_plan import ScheduledChunk

BLOCK_TOKENS = 16
STOP_TOKEN = 2


class SlowDisk(AdapterLoader):
    """An adapter loader whose reads take a number of steps; sizes are in the digests: "7:name"."""

    def __init__(self, steps_per_load: int) -> None:
        self._steps_per_load = steps_per_load
        self._due: dict[str, int] = {}
        self._now = 0

    @property
    def num_loading(self) -> int:
        return len(self._due)

    def start(self, digest: str, _: AdapterSource) -> None:
        self._due.setdefault(digest, self._now + self._steps_per_load)

    def finished(self) -> list[tuple[str, LoadedImage | Refusal]]:
        self._now += 1
        done = [digest for digest, due in self._due.items() if due <= self._now]
        for digest in done:
            del self._due[digest]
        return [(digest, _image(digest)) for digest in done]

    def close(self) -> None:
        pass


def _image(digest: str) -> LoadedImage | Refusal:
    size = digest.partition(":")[0]
    if size == "bad":
        return Refusal("ADAPTER_INVALID", digest)
    table = torch.zeros(0, dtype=torch.int64)
    return LoadedImage(PageImage(torch.zeros(int(size), 1), table, table, 1), 0.001)


@dataclass
class Limits:
    """`seconds_per_token`: what each token adds to a step; 0: the scheduler learns of no times."""

    num_pages: int = 64
    max_num_seqs: int = 4
    budget: int = 64
    max_overtakes: int = 16
    host_bytes: int = 100
    max_resident: int = 0
    steps_per_load: int = 3
    overlap: bool = False
    seconds_per_token: float = 0.0


@dataclass
class Simulation:
    """`served` counts output tokens, `cost` what the fair queue counts, by tenant."""

    limits: Limits
    served: Counter[str] = field(default_factory=Counter)
    cost: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    finished: list[int] = field(default_factory=list)
    aborted: set[int] = field(default_factory=set)
    refused: dict[int, str] = field(default_factory=dict)
    admitted: list[int] = field(default_factory=list)
    num_submitted: int = 0
    num_steps: int = 0

    def __post_init__(self) -> None:
        limits = self.limits
        self._computed: dict[int, int] = {}
        self._stops_after: dict[int, int] = {}
        self._in_flight: list[ScheduledChunk] = []
        self.pool = PagePool(limits.num_pages)
        self.idle, costs = EvictionQueue(), RebuildCosts()
        self.costs = costs
        self.prefixes = PrefixCache(self.pool, self.idle, costs)
        keys = PrefixKeys(b"salt", "base", BLOCK_TOKENS)
        self.blocks = BlockManager(self.pool, BLOCK_TOKENS, self.prefixes, keys)
        self.host = HostTier(limits.host_bytes)
        copier = HostPageCopier(torch.zeros(limits.num_pages, 1))
        self.cache = AdapterCache(self.pool, copier, self.idle, costs)
        self.memory = ArenaMemory(self.pool, self.idle, self.prefixes, self.cache, self.host)
        self.adapters = AdapterManager(
            self.pool,
            self.memory,
            self.cache,
            self.host,
            SlowDisk(limits.steps_per_load),
            costs,
            limits.max_resident,
        )
        self.admission = Admission(self.blocks, self.adapters, self.memory, limits.max_overtakes)
        scheduler_limits = SchedulerLimits(limits.max_num_seqs, limits.budget)
        self.scheduler = Scheduler(self.admission, self.blocks, self.memory, scheduler_limits)

    def submit(
        self,
        tenant: str,
        num_prompt: int,
        num_output: int,
        adapter: str = "",
        *,
        weight: float = 1.0,
        priority: int = 0,
        first_token: int | None = None,
        stops_after: int = 0,
    ) -> int:
        """Prompts with the same `first_token` begin alike; without one, a prompt is like no other.

        The token `stops_after` of the output is a stop token; 0: none is. Returns the request's id.
        """
        request_id = self.num_submitted
        self.num_submitted += 1
        if adapter and not self.adapters.knows(adapter):
            self.adapters.add(adapter, AdapterSource(Path(), {}))
        start = 1000 + request_id if first_token is None else first_token
        self._stops_after[request_id] = stops_after
        stop_ids = (STOP_TOKEN,)
        sampling = SamplingOptions(max_tokens=num_output, stop_token_ids=stop_ids)
        prompt = [start] * num_prompt
        submit = Submit(request_id, prompt, sampling, adapter, tenant, weight, priority)
        refusal = self.admission.why_never(adapter, submit.max_num_tokens)
        if refusal is None:
            self.scheduler.add(Sequence.from_submit(submit))
        else:
            self.refused[request_id] = refusal.reason
        return request_id

    def step(self) -> list[ScheduledChunk]:
        for sequence, refusal in self.admission.refuse(self.adapters.collect()):
            self.refused[sequence.request_id] = refusal.reason
        if self.scheduler.is_short_of_pages:
            self._finish()
        chunks = self.scheduler.schedule()
        if not chunks and self._in_flight:
            self._finish()
            chunks = self.scheduler.schedule()
        self.host.trim(self.admission.awaited_adapters)
        assert len({chunk.sequence.request_id for chunk in chunks}) == len(chunks)
        assert sum(chunk.num_tokens for chunk in chunks) <= self.limits.budget
        assert self.scheduler.num_running <= self.limits.max_num_seqs
        for chunk in chunks:
            self._launch(chunk)
        self._finish()
        self._in_flight = [chunk for chunk in chunks if self._is_wanted(chunk)]
        if not self.limits.overlap:
            self._finish()
        self.num_steps += 1
        if self.limits.seconds_per_token:
            self._observe(chunks)
        return chunks

    def _observe(self, chunks: list[ScheduledChunk]) -> None:
        """As the engine does of each step that has run."""
        num_tokens = sum(chunk.num_tokens for chunk in chunks)
        num_decoded = sum(chunk.num_tokens == 1 for chunk in chunks)
        seconds = num_tokens * self.limits.seconds_per_token
        self.scheduler.sharing.ran(num_tokens - num_decoded, num_decoded, seconds)

    def _launch(self, chunk: ScheduledChunk) -> None:
        sequence = chunk.sequence
        if sequence.request_id not in self.admitted[-64:]:
            self.admitted.append(sequence.request_id)
        assert chunk.start == sequence.num_computed
        assert len(self.blocks.table(sequence.request_id)) * BLOCK_TOKENS >= chunk.end

    def _is_wanted(self, chunk: ScheduledChunk) -> bool:
        """Moves a launched sequence on, unless it has ended."""
        sequence = chunk.sequence
        if not self.scheduler.holds(sequence):
            self.scheduler.take_back(chunk)
            return False
        self._count_cost(sequence, chunk.end)
        sequence.num_computed = chunk.end
        sequence.num_pending = int(chunk.samples)
        return True

    def _finish(self) -> None:
        """The tokens of the step in flight arrive."""
        chunks, self._in_flight = self._in_flight, []
        for sequence in [chunk.sequence for chunk in chunks if chunk.samples]:
            if not self.scheduler.holds(sequence):
                continue  # aborted meanwhile
            self.served[sequence.tenant] += 1
            is_stop = sequence.num_output == self._stops_after[sequence.request_id]
            if sequence.append(STOP_TOKEN if is_stop else 1):
                self.scheduler.finish(sequence)
                self.finished.append(sequence.request_id)
                del self._computed[sequence.request_id]

    def _count_cost(self, sequence: Sequence, end: int) -> None:
        """Tokens up to `end` are computed now; those computed before a preemption cost nothing."""
        before = max(self._computed.get(sequence.request_id, 0), sequence.num_cached)
        for position in range(before, end):
            is_prompt = position < sequence.num_prompt
            self.cost[sequence.tenant] += PROMPT_COST if is_prompt else OUTPUT_COST
        self._computed[sequence.request_id] = max(before, end)

    def charged(self, tenant: str) -> float:
        """What the fair queue counted for a tenant of weight 1."""
        return self.admission.waiting._served[tenant]

    def abort(self, request_id: int) -> None:
        if self.is_open(request_id):
            self.scheduler.abort(request_id)
            self.aborted.add(request_id)

    def is_open(self, request_id: int) -> bool:
        ended = request_id in self.finished or request_id in self.refused
        return not ended and request_id not in self.aborted

    @property
    def num_open(self) -> int:
        num_ended = len(self.finished) + len(self.refused) + len(self.aborted)
        return self.num_submitted - num_ended

    def run_to_end(self, max_steps: int = 100_000) -> None:
        for _ in range(max_steps):
            if self.num_open == 0:
                return
            self.step()
            self.check_integrity()
        raise AssertionError(f"{self.num_open} requests never ended")

    def check_integrity(self) -> None:
        for part in (*(self.pool, self.blocks, self.prefixes, self.cache, self.host, self.idle),):
            part.check_integrity()
