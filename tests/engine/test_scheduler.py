"""The scheduler by simulation, without a model: fair between tenants, and nobody is forgotten."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.engine.adapter_cache import AdapterCache
from inference_service.engine.adapter_loader import AdapterLoader
from inference_service.engine.adapter_manager import AdapterManager
from inference_service.engine.block_manager import BlockManager
from inference_service.engine.fair_queue import OUTPUT_COST
from inference_service.engine.page_pool import PagePool, PageUse
from inference_service.engine.request import SamplingOptions, Submit
from inference_service.engine.scheduler import Scheduler
from inference_service.engine.sequence import Sequence
from inference_service.models.families import read_spec

BLOCK_TOKENS = 16


class Simulation:
    """A scheduler whose model always samples token 1."""

    def __init__(self, model_path: Path, num_pages: int, max_num_seqs: int, budget: int) -> None:
        self.pool = PagePool(num_pages)
        self.blocks = BlockManager(self.pool, BLOCK_TOKENS)
        loader = AdapterLoader(read_spec(model_path), 1, torch.float32, 1)
        adapters = AdapterManager(self.pool, AdapterCache(self.pool, torch.empty(0)), loader)
        self.scheduler = Scheduler(self.blocks, adapters, max_num_seqs, budget)
        self.served: dict[str, int] = {}
        self.finished: list[int] = []
        self.num_submitted = 0

    def submit(self, tenant: str, num_prompt: int, num_output: int) -> None:
        sampling = SamplingOptions(temperature=0.0, max_tokens=num_output)
        submit = Submit(self.num_submitted, [0] * num_prompt, sampling, "", tenant)
        self.scheduler.add(Sequence.from_submit(submit))
        self.num_submitted += 1

    def step(self) -> None:
        chunks = self.scheduler.schedule()
        assert len({chunk.sequence.request_id for chunk in chunks}) == len(chunks)
        for chunk in chunks:
            sequence = chunk.sequence
            samples = chunk.samples
            sequence.num_computed += chunk.num_tokens
            if samples:
                self.served[sequence.tenant] = self.served.get(sequence.tenant, 0) + 1
                if sequence.append(1):
                    self.scheduler.finish(sequence)
                    self.finished.append(sequence.request_id)
        self.pool.check_integrity()
        self.blocks.check_integrity()

    def run_to_end(self) -> None:
        for _ in range(100_000):
            if len(self.finished) == self.num_submitted:
                return
            self.step()
        raise AssertionError(f"{self.num_submitted - len(self.finished)} requests never ended")


def test_a_flood_does_not_delay_another_tenant(model_path: Path) -> None:
    simulation = Simulation(model_path, num_pages=64, max_num_seqs=4, budget=256)
    for _ in range(200):
        simulation.submit("noisy", 20, 20)
    for _ in range(5):
        simulation.step()
    simulation.submit("quiet", 20, 20)
    quiet = simulation.num_submitted - 1
    simulation.run_to_end()
    # One round of the four that ran when it came, then its own.
    assert simulation.finished.index(quiet) < 8


@pytest.mark.parametrize(("prompts", "outputs"), [((5, 5), (10, 10)), ((5, 90), (40, 3))])
def test_busy_tenants_are_served_alike(
    model_path: Path, prompts: tuple[int, int], outputs: tuple[int, int]
) -> None:
    """By cost, whatever the shape of their requests."""
    simulation = Simulation(model_path, num_pages=64, max_num_seqs=4, budget=64)
    for _ in range(150):
        for tenant, num_prompt, num_output in zip("ab", prompts, outputs, strict=True):
            simulation.submit(tenant, num_prompt, num_output)
    cost_of = [p + OUTPUT_COST * (o - 1) for p, o in zip(prompts, outputs, strict=True)]
    for _ in range(300):
        simulation.step()
    finished = [0, 0]
    for request_id in simulation.finished:
        finished[request_id % 2] += 1
    costs = [count * cost for count, cost in zip(finished, cost_of, strict=True)]
    largest = max(cost_of) * 4  # a batch's worth of requests
    assert min(finished) > 0
    assert abs(costs[0] - costs[1]) <= largest


def test_who_was_away_brings_no_credit(model_path: Path) -> None:
    simulation = Simulation(model_path, num_pages=64, max_num_seqs=2, budget=64)
    for _ in range(40):
        simulation.submit("steady", 10, 10)
    for _ in range(150):
        simulation.step()
    for _ in range(40):
        simulation.submit("late", 10, 10)
    simulation.served.clear()
    for _ in range(60):
        simulation.step()
    assert abs(simulation.served["steady"] - simulation.served["late"]) <= 40


@settings(max_examples=60)
@given(
    requests=st.lists(
        st.tuples(
            st.sampled_from("abc"), st.integers(1, 60), st.integers(1, 60), st.integers(0, 5)
        ),
        min_size=1,
        max_size=30,
    ),
    num_pages=st.integers(8, 24),
    max_num_seqs=st.integers(1, 8),
    budget=st.integers(1, 64),
)
def test_every_request_ends_under_any_pressure(
    model_path: Path,
    requests: list[tuple[str, int, int, int]],
    num_pages: int,
    max_num_seqs: int,
    budget: int,
) -> None:
    simulation = Simulation(model_path, num_pages, max_num_seqs, budget)
    for tenant, num_prompt, num_output, num_steps in requests:
        simulation.submit(tenant, num_prompt, num_output)
        for _ in range(num_steps):
            simulation.step()
    simulation.run_to_end()
    assert sorted(simulation.finished) == list(range(len(requests)))
    assert simulation.pool.num_used(PageUse.KV) == 0
