"""The scheduler by simulation, without a model: fair between tenants, and nobody is forgotten."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.engine.fair_queue import OUTPUT_COST
from inference_service.engine.page_pool import PageUse
from tests.engine.simulation import BLOCK_TOKENS, Limits, Simulation


def test_a_flood_does_not_delay_another_tenant() -> None:
    simulation = Simulation(Limits(budget=256))
    for _ in range(200):
        simulation.submit("noisy", 20, 20)
    for _ in range(5):
        simulation.step()
    quiet = simulation.submit("quiet", 20, 20)
    simulation.run_to_end()
    # One round of the four that ran when it came, then its own.
    assert simulation.finished.index(quiet) < 8


@pytest.mark.parametrize(("prompts", "outputs"), [((5, 5), (10, 10)), ((5, 90), (40, 3))])
def test_busy_tenants_are_served_alike(prompts: tuple[int, int], outputs: tuple[int, int]) -> None:
    """By cost, whatever the shape of their requests."""
    simulation = Simulation(Limits())
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


def test_weights_are_shares_of_a_busy_engine() -> None:
    simulation = Simulation(Limits())
    for _ in range(400):
        simulation.submit("heavy", 10, 10, weight=3.0)
        simulation.submit("light", 10, 10)
    for _ in range(600):
        simulation.step()
    a_batch = 4 * (10 + OUTPUT_COST * 9)
    assert abs(simulation.cost["heavy"] / 3 - simulation.cost["light"]) <= a_batch


def test_who_was_away_brings_no_credit() -> None:
    simulation = Simulation(Limits(max_num_seqs=2))
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


def test_priority_orders_the_requests_of_one_tenant_and_of_no_other() -> None:
    simulation = Simulation(Limits(max_num_seqs=1))
    simulation.submit("running", 4, 50)
    simulation.step()
    for _ in range(3):
        simulation.submit("a", 10, 10)
        simulation.submit("b", 10, 10)
    urgent = simulation.submit("a", 10, 10, priority=-1)
    simulation.run_to_end()
    order = simulation.finished[1:]
    assert order.index(urgent) == 0
    tenants = ["a" if request_id == urgent or request_id % 2 else "b" for request_id in order]
    assert tenants[:6].count("a") == 3  # turns are taken as if nothing were urgent


def test_a_less_urgent_request_is_preempted_first() -> None:
    simulation = Simulation(Limits(num_pages=8, budget=256))
    later = [simulation.submit("a", 30, 60, priority=5), simulation.submit("a", 30, 60)]
    simulation.run_to_end()
    assert simulation.scheduler.num_preemptions > 0
    assert simulation.finished == [later[1], later[0]]


def test_a_cold_adapter_does_not_hold_back_the_others() -> None:
    simulation = Simulation(Limits(steps_per_load=40))
    cold = simulation.submit("a", 10, 5, "4:cold")
    warm = [simulation.submit("a", 10, 5) for _ in range(6)]
    simulation.run_to_end()
    assert simulation.finished == [*warm, cold]
    assert simulation.num_steps < 60


@pytest.mark.parametrize("max_overtakes", [0, 3])
def test_waiting_for_pages_is_bounded(max_overtakes: int) -> None:
    """A large adapter gets its pages although small requests never stop coming."""
    limits = Limits(num_pages=24, max_num_seqs=8, max_overtakes=max_overtakes, steps_per_load=1)
    simulation = Simulation(limits)
    for _ in range(8):
        simulation.submit("crowd", 20, 20)
    simulation.step()
    large = simulation.submit("quiet", 10, 5, "18:large")
    for _ in range(3):
        simulation.step()  # it is loaded by now, and finds no pages
    num_before = len(set(simulation.admitted))
    for _ in range(300):
        if large in simulation.finished:
            break
        simulation.submit("crowd", 20, 20)
        simulation.submit("quiet", 20, 20)
        simulation.step()
    assert large in simulation.finished
    overtakers = set(simulation.admitted[: simulation.admitted.index(large)])
    assert len(overtakers) - num_before <= max_overtakes


def test_what_cannot_ever_run_is_refused_once_that_is_known() -> None:
    simulation = Simulation(Limits(num_pages=16))
    bad = simulation.submit("a", 10, 5, "bad:weights")
    too_large = simulation.submit("a", 10, 5, "17:large")
    together = simulation.submit("a", 100, 60, "12:fits-alone")
    fine = simulation.submit("a", 10, 5, "12:fits-alone")
    simulation.run_to_end()
    assert simulation.refused == {
        bad: "ADAPTER_INVALID",
        too_large: "OUT_OF_PAGES",
        together: "OUT_OF_PAGES",
    }
    assert simulation.finished == [fine]
    again = simulation.submit("a", 100, 60, "12:fits-alone")
    assert simulation.refused[again] == "OUT_OF_PAGES"


def test_shared_beginnings_are_computed_once() -> None:
    simulation = Simulation(Limits(budget=512))
    simulation.submit("a", 70, 3, first_token=5)
    simulation.run_to_end()
    simulation.submit("a", 70, 3, first_token=5)
    (chunk,) = simulation.step()
    assert chunk.sequence.num_cached == 4 * BLOCK_TOKENS
    assert chunk.num_tokens == 6
    for tenant, adapter in (("b", ""), ("a", "1:x")):  # nothing is shared across these
        simulation.run_to_end()
        simulation.submit(tenant, 70, 3, adapter, first_token=5)
        while not (chunks := simulation.step()):
            pass
        assert chunks[0].num_tokens == 70, (tenant, adapter)


def test_a_whole_number_of_blocks_leaves_a_token_to_compute() -> None:
    simulation = Simulation(Limits(budget=512))
    for _ in range(2):
        simulation.submit("a", 64, 2, first_token=5)
        (chunk,) = simulation.step()
        simulation.run_to_end()
    assert chunk.sequence.num_cached == 3 * BLOCK_TOKENS


def test_a_preempted_request_finds_its_own_blocks_again() -> None:
    simulation = Simulation(Limits(num_pages=8, budget=256))
    for _ in range(2):
        simulation.submit("a", 30, 60)
    simulation.run_to_end()
    assert simulation.scheduler.num_preemptions > 0
    assert simulation.admission.num_prefix_hits > 0


REQUESTS = st.tuples(
    st.sampled_from("abc"),
    st.integers(1, 60),
    st.integers(1, 60),
    st.sampled_from(["", "1:x", "2:y", "3:z", "bad:w"]),
    st.integers(0, 5),
    st.sampled_from([0, 0, 1, 7]),
)


@settings(max_examples=80, deadline=None)
@given(
    requests=st.lists(REQUESTS, min_size=1, max_size=30),
    num_pages=st.integers(11, 24),
    max_num_seqs=st.integers(1, 8),
    budget=st.integers(1, 64),
    host_bytes=st.integers(0, 20),
    max_resident=st.integers(0, 2),
    overlap=st.booleans(),
    seconds_per_token=st.sampled_from([0.0, 0.001, 0.01, 1.0]),
)
def test_every_request_ends_under_any_pressure(
    requests: list[tuple[str, int, int, str, int, int]],
    num_pages: int,
    max_num_seqs: int,
    budget: int,
    host_bytes: int,
    max_resident: int,
    overlap: bool,
    seconds_per_token: float,
) -> None:
    limits = Limits(num_pages, max_num_seqs, budget, 3, host_bytes, max_resident)
    limits.overlap, limits.seconds_per_token = overlap, seconds_per_token
    simulation = Simulation(limits)
    for number, request in enumerate(requests):
        tenant, num_prompt, num_output, adapter, num_steps, stops_after = request
        simulation.submit(
            *(tenant, num_prompt, num_output, adapter),
            priority=number % 3,
            first_token=number % 4,
            stops_after=stops_after,
        )
        for _ in range(num_steps):
            simulation.step()
    simulation.run_to_end()
    ended = sorted([*simulation.finished, *simulation.refused])
    assert ended == list(range(len(requests)))
    for request_id in simulation.refused:
        assert requests[request_id][3] == "bad:w"
    assert simulation.pool.num_used(PageUse.KV) == 0


@pytest.mark.parametrize("num_pages", [200, 12], ids=["roomy", "preempting"])
def test_an_overlapping_step_changes_neither_outputs_nor_costs(num_pages: int) -> None:
    """A sequence that a stop token ended was in one step more; nobody is charged for it."""
    simulations = []
    for overlap in (False, True):
        simulation = Simulation(Limits(num_pages=num_pages, budget=32, overlap=overlap))
        for number in range(20):
            num_prompt, num_output = 5 + 7 * number % 40, 4 + 11 * number % 50
            stops_after = (0, 1, 3, num_output)[number % 4]
            simulation.submit("a", num_prompt, num_output, stops_after=stops_after)
        simulation.run_to_end()
        assert simulation.served["a"] < simulation.num_submitted * 54
        assert simulation.scheduler.num_preemptions > 0 or num_pages == 200
        simulations.append(simulation)
    plain, overlapped = simulations
    assert sorted(overlapped.finished) == sorted(plain.finished)
    assert overlapped.served == plain.served
    assert overlapped.cost == plain.cost
    assert overlapped.charged("a") == plain.charged("a") == plain.cost["a"]


def test_the_scheduler_needs_no_torch() -> None:
    script = "import sys, inference_service.engine.scheduler; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
