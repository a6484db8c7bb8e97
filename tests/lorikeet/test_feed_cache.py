"""The cache that the change feed leads: nothing outlives a change that was acknowledged."""

import asyncio
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorikeet.rpc.feed_cache import FeedCache, Loaded

SECONDS = 60.0


class Table:
    """Rows by key, each its own source; loads take a few turns of the loop."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.rows = {"a": 0, "b": 0}
        self.num_loads = 0
        self._seconds = seconds

    async def load(self, key: str, turns: int = 0) -> Loaded[tuple[int]]:
        self.num_loads += 1
        value = self.rows[key]
        for _ in range(turns):
            await asyncio.sleep(0)
        return Loaded((value,), frozenset({key}), self._seconds)


def make_cache(max_entries: int = 100) -> FeedCache[str, tuple[int]]:
    return FeedCache(max_entries, lambda: True)


async def test_who_misses_together_shares_one_load() -> None:
    cache, table = make_cache(), Table()
    load = partial(table.load, "a", 3)
    assert await asyncio.gather(*(cache.get("a", "a", load) for _ in range(50))) == [(0,)] * 50
    assert (table.num_loads, cache.cached("a")) == (1, (0,))


@pytest.mark.parametrize("source", ["a", None])
async def test_a_load_that_races_with_a_change_is_not_kept(source: str | None) -> None:
    cache, table = make_cache(), Table()
    early = asyncio.create_task(cache.get("a", source, partial(table.load, "a", 5)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    table.rows["a"] = 1
    cache.forget("a")
    # Whoever asks after the change does not join the load from before it.
    assert await cache.get("a", source, partial(table.load, "a")) == (1,)
    assert await early == (0,)
    assert cache.cached("a") == (1,)


async def test_one_who_leaves_does_not_end_the_load_of_others() -> None:
    cache, table = make_cache(), Table()
    load = partial(table.load, "a", 5)
    first = asyncio.create_task(cache.get("a", "a", load))
    second = asyncio.create_task(cache.get("a", "a", load))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second, table.num_loads) == ((0,), 1)


async def test_errors_and_what_may_not_serve_are_not_kept() -> None:
    async def fail() -> Loaded[tuple[int]]:
        raise OSError("gone")

    cache, table = make_cache(), Table(seconds=0)
    with pytest.raises(OSError, match="gone"):
        await cache.get("a", "a", fail)
    assert await cache.get("a", "a", partial(table.load, "a")) == (0,)
    assert cache.cached("a") is None


async def test_nothing_is_served_without_contact() -> None:
    is_current = True
    cache: FeedCache[str, tuple[int]] = FeedCache(10, lambda: is_current)
    table = Table()
    await cache.get("a", "a", partial(table.load, "a"))
    assert cache.cached("a") == (0,)
    is_current = False
    assert cache.cached("a") is None


async def test_the_least_used_leaves_first() -> None:
    cache, table = make_cache(max_entries=2), Table()
    table.rows["c"] = 0
    for key in ("a", "b", "a", "c"):
        await cache.get(key, key, partial(table.load, key))
    assert [cache.cached(key) for key in "abc"] == [(0,), None, (0,)]
    cache.forget("b")
    cache.clear()
    assert len(cache) == 0


STEPS = st.lists(
    st.tuples(st.sampled_from(["read", "write", "turn"]), st.sampled_from("ab"), st.integers(0, 4)),
    max_size=40,
)


@given(STEPS)
def test_reads_never_miss_an_acknowledged_write(steps: list[tuple[str, str, int]]) -> None:
    asyncio.run(_run(steps))


async def _run(steps: list[tuple[str, str, int]]) -> None:
    cache, table = make_cache(max_entries=1), Table()

    async def read(key: str, turns: int) -> None:
        at_least = table.rows[key]
        (value,) = await cache.get(key, key, partial(table.load, key, turns))
        assert value >= at_least

    reads = []
    for step, key, turns in steps:
        if step == "read":
            reads.append(asyncio.create_task(read(key, turns)))
        elif step == "write":
            table.rows[key] += 1
            cache.forget(key)
        for _ in range(turns):
            await asyncio.sleep(0)
    await asyncio.gather(*reads)
    for key, value in table.rows.items():
        assert cache.cached(key) in (None, (value,))
