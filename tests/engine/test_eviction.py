"""What leaves the arena first, and where it goes."""

from hypothesis import given
from hypothesis import strategies as st

from inference_service.engine.eviction import Evictable, EvictionQueue, RebuildCosts
from inference_service.engine.page_pool import PageUse
from tests.engine.simulation import BLOCK_TOKENS, Limits, Simulation


def idle(queue: EvictionQueue, num_uses: int, seconds: float, depth: int = 0) -> Evictable:
    item = Evictable(num_pages=1, depth=depth)
    for _ in range(num_uses):
        queue.touch(item, seconds)
    queue.add(item)
    return item


def popped(queue: EvictionQueue) -> list[Evictable]:
    items = []
    while (item := queue.pop()) is not None:
        items.append(item)
    return items


def test_what_is_used_often_or_slow_to_bring_back_stays_longest() -> None:
    queue = EvictionQueue()
    often, slow, rare = idle(queue, 5, 1.0), idle(queue, 1, 3.0), idle(queue, 1, 1.0)
    assert popped(queue) == [rare, slow, often]


def test_the_end_of_a_prefix_leaves_before_its_beginning() -> None:
    queue = EvictionQueue()
    blocks = [idle(queue, 1, 1.0, depth) for depth in range(4)]
    assert popped(queue) == blocks[::-1]


def test_what_was_popular_long_ago_leaves_in_the_end() -> None:
    queue = EvictionQueue()
    old = idle(queue, 10, 1.0)
    for _ in range(9):  # each of these was used last, and the clock goes on
        idle(queue, 1, 1.0)
        assert queue.pop() is not old
    newest = idle(queue, 2, 1.0)
    assert queue.pop() is old
    assert queue.pop() is newest


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=60))
def test_only_idle_items_are_popped(items: list[tuple[int, bool]]) -> None:
    queue = EvictionQueue()
    made = [(idle(queue, uses, 1.0), used_again) for uses, used_again in items]
    for item, used_again in made:
        if used_again:
            queue.discard(item)
    queue.check_integrity()
    assert set(popped(queue)) == {item for item, used_again in made if not used_again}
    assert queue.num_pages == 0


def test_costs_follow_what_is_measured() -> None:
    costs = RebuildCosts()
    for _ in range(50):
        costs.observe_load(seconds=0.5, num_pages=10)
        costs.observe_prefill(seconds=0.2, num_blocks=4)
    assert abs(costs.adapter_page - 0.05) < 1e-3
    assert abs(costs.cached_block - 0.05) < 1e-3


def run_one(simulation: Simulation, adapter: str, first_token: int | None = None) -> None:
    simulation.submit("a", 3 * BLOCK_TOKENS, 2, adapter, first_token=first_token)
    simulation.run_to_end()


def test_prefixes_and_adapters_leave_in_one_order() -> None:
    """The costlier kind stays, whichever that is."""
    for block_cost, survivor in ((1e-9, "adapter"), (1e9, "prefix")):
        simulation = Simulation(Limits(num_pages=12, budget=512))
        simulation.costs.cached_block = block_cost
        run_one(simulation, "5:x", first_token=7)
        assert simulation.pool.num_used(PageUse.CACHED) == 3
        simulation.submit("a", 7 * BLOCK_TOKENS, 2)  # 7 pages, of which 4 are free
        simulation.step()
        assert (simulation.cache.get("5:x") is not None) == (survivor == "adapter")
        assert (simulation.pool.num_used(PageUse.CACHED) == 3) == (survivor == "prefix")


def test_an_adapter_that_left_comes_back_without_the_disk() -> None:
    simulation = Simulation(Limits(num_pages=12, max_resident=1))
    run_one(simulation, "5:x")
    run_one(simulation, "6:y")
    assert simulation.cache.get("5:x") is None
    assert simulation.host.get("5:x") is not None
    num_loads = simulation.adapters.num_loads
    run_one(simulation, "5:x")
    assert simulation.adapters.num_loads == num_loads
    assert simulation.host.get("5:x") is None  # its pages are not kept twice


def test_host_memory_keeps_to_its_budget() -> None:
    image_bytes = 4  # of a page of one float32
    simulation = Simulation(Limits(num_pages=12, max_resident=1, host_bytes=7 * image_bytes))
    for adapter in ("5:x", "6:y", "4:z", "5:x", "6:y"):
        run_one(simulation, adapter)
        assert simulation.host.num_bytes <= 7 * image_bytes
    assert simulation.adapters.num_loads > 3  # some had to be read again


def test_pinned_adapters_stay() -> None:
    simulation = Simulation(Limits(num_pages=14))
    run_one(simulation, "5:x")
    simulation.cache.pin("5:x", True)
    for _ in range(5):
        run_one(simulation, "3:y")
        run_one(simulation, "4:z")
        assert simulation.cache.get("5:x") is not None
    too_large = simulation.submit("a", 10, 2, "9:w")
    while simulation.num_open:
        simulation.step()
    assert simulation.refused == {too_large: "OUT_OF_PAGES"}
    simulation.cache.pin("5:x", False)
    run_one(simulation, "9:w")
    assert simulation.cache.get("5:x") is None
