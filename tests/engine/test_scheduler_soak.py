"""A million random steps: no request is lost, none waits for ever, and the shares stay fair."""

import os
import random

import pytest

from inference_service.engine.fair_queue import OUTPUT_COST, PROMPT_COST
from inference_service.engine.page_pool import PageUse
from tests.engine.simulation import BLOCK_TOKENS, Limits, Simulation

# A tenth by default; the whole million with LORIKEET_SOAK=1 (about four minutes).
NUM_STEPS = 1_000_000 if os.environ.get("LORIKEET_SOAK") else 100_000
ADAPTERS = ["", "", "1:p", "2:q", "3:r", "5:s", "8:t", "13:u", "bad:v"]
MAX_OPEN = 48


class Traffic:
    """Random requests, cancellations and unloads, never more than MAX_OPEN requests at once."""

    def __init__(self, seed: int, simulation: Simulation) -> None:
        self._random = random.Random(seed)
        self._simulation = simulation
        self.open: dict[int, int] = {}  # request id -> the step it came at

    def step(self) -> None:
        choose, simulation = self._random, self._simulation
        if len(self.open) < MAX_OPEN and choose.random() < 0.4:
            self._submit()
        if self.open and choose.random() < 0.01:
            simulation.abort(choose.choice(list(self.open)))
        if choose.random() < 0.005:
            self._unload(choose.choice(ADAPTERS))

    def _submit(self) -> None:
        choose, simulation = self._random, self._simulation
        request_id = simulation.submit(
            choose.choice("abcdef"),
            choose.randint(1, 80),
            choose.randint(1, 40),
            choose.choice(ADAPTERS),
            priority=choose.randint(0, 2),
            weight=choose.choice([1.0, 2.0]),
            first_token=choose.randint(0, 5),
            stops_after=choose.choice([0, 0, choose.randint(1, 40)]),
        )
        self.open[request_id] = simulation.num_steps

    def _unload(self, adapter: str) -> None:
        simulation = self._simulation
        resident = simulation.cache.get(adapter)
        if not simulation.adapters.knows(adapter) or simulation.admission.num_users(adapter):
            return
        if resident is None or resident.is_ready:
            simulation.prefixes.forget(adapter)
            simulation.adapters.forget(adapter)

    def forget_ended(self) -> None:
        """Each request ends in exactly one way."""
        simulation = self._simulation
        ended = [*simulation.finished, *simulation.refused, *simulation.aborted]
        assert len(set(ended)) == len(ended)
        for request_id in ended:
            self.open.pop(request_id)  # known, and ended for the first time
        for ended_list in (simulation.finished, simulation.refused, simulation.aborted):
            ended_list.clear()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("overlap", [False, True], ids=["", "overlap"])
def test_no_request_is_lost_or_starves(overlap: bool) -> None:
    limits = Limits(num_pages=48, max_num_seqs=8, budget=128, host_bytes=30, overlap=overlap)
    simulation = Simulation(limits)
    traffic = Traffic(1, simulation)
    longest_wait = 0
    for step in range(NUM_STEPS):
        traffic.step()
        simulation.step()
        if step % 50 == 0:
            simulation.check_integrity()
            traffic.forget_ended()
            oldest = min(traffic.open.values(), default=step)
            longest_wait = max(longest_wait, step - oldest)
    for _ in range(100_000):
        if not traffic.open:
            break
        simulation.step()
        traffic.forget_ended()
    assert not traffic.open, "requests were lost"
    assert simulation.pool.num_used(PageUse.KV) == 0
    # 48 requests of at most 120 tokens, 8 at a time, would take 720 steps one after another.
    assert longest_wait < 1500
    assert simulation.scheduler.num_preemptions > 0
    assert simulation.memory.num_evictions > 0
    assert simulation.admission.num_prefix_hits > 0


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("overlap", [False, True], ids=["", "overlap"])
@pytest.mark.parametrize("num_pages", [200, 40], ids=["roomy", "preempting"])
def test_the_gap_between_busy_tenants_is_bounded(num_pages: int, overlap: bool) -> None:
    """VTC's theorem: 2 x max(longest prompt, what a full batch can be served), by weight."""
    weights = {"light": 1.0, "middle": 2.0, "heavy": 4.0}
    limits = Limits(num_pages=num_pages, max_num_seqs=8, budget=128, overlap=overlap)
    simulation = Simulation(limits)
    choose = random.Random(2)
    num_waiting: dict[str, int] = dict.fromkeys(weights, 0)
    owner: dict[int, str] = {}
    largest_gap = 0.0
    for _ in range(NUM_STEPS // 20):
        for tenant, weight in weights.items():
            while num_waiting[tenant] < 20:  # more than can run: always backlogged
                shape = choose.randint(1, 80), choose.randint(1, 40)
                owner[simulation.submit(tenant, *shape, weight=weight)] = tenant
                num_waiting[tenant] += 1
        simulation.step()
        for request_id in simulation.finished:
            num_waiting[owner.pop(request_id)] -= 1
        simulation.finished.clear()
        shares = [simulation.cost[tenant] / weight for tenant, weight in weights.items()]
        largest_gap = max(largest_gap, max(shares) - min(shares))
    full_batch = min(limits.max_num_seqs * 120, num_pages * BLOCK_TOKENS)
    assert largest_gap <= 2 * max(80 * PROMPT_COST, full_batch * OUTPUT_COST)
    assert largest_gap < 0.01 * sum(simulation.cost.values())
