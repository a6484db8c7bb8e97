"""Load on a service from processes of their own: closed loops, open loops, each name once.

In a closed loop every client asks again as soon as it was answered: how much goes through. In an
open loop requests begin at times drawn beforehand, whatever the answers do, and a delay counts from
the time a request was due: what users wait.
"""

import asyncio
import multiprocessing
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.lookups import Lookup, Service, connect

_NUM_PROCESSES = 2
_MAX_WAITING = 2000  # requests of an open loop at a time: an overloaded service must not drown us


@dataclass(frozen=True)
class Delays:
    """Milliseconds of every request, and how long the whole took in seconds."""

    milliseconds: tuple[float, ...]
    seconds: float

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.milliseconds) / self.seconds

    def percentile(self, share: float) -> float:
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def median(self) -> float:
        return statistics.median(self.milliseconds)


class LoadGenerator:
    """Processes that ask; their number is the machine's business, not the load's."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def closed(self, service: Service, names: int, clients: int, seconds: float) -> Delays:
        """`clients` in all, each asking for one of `names` at random."""
        shares = [clients // _NUM_PROCESSES] * _NUM_PROCESSES
        shares[0] += clients % _NUM_PROCESSES
        calls = [(_closed, service, names, share, seconds) for share in shares if share]
        return self._gather(calls)

    def opened(self, service: Service, names: int, rate: float, seconds: float) -> Delays:
        """`rate` requests per second in all, at random times."""
        share = rate / _NUM_PROCESSES
        return self._gather([(_opened, service, names, share, seconds)] * _NUM_PROCESSES)

    def once(self, service: Service, chosen: Sequence[int], clients: int) -> Delays:
        """Each of the `chosen` names exactly once."""
        parts = [chosen[n::_NUM_PROCESSES] for n in range(_NUM_PROCESSES)]
        each = max(1, clients // _NUM_PROCESSES)
        return self._gather([(_once, service, part, each) for part in parts])

    def _gather(self, calls: Sequence[tuple[Any, ...]]) -> Delays:
        seeds = random.sample(range(10**9), len(calls))
        futures = [
            self._pool.submit(_run, *call, seed) for call, seed in zip(calls, seeds, strict=True)
        ]
        parts = [future.result() for future in futures]
        delays = tuple(delay for part in parts for delay in part.milliseconds)
        return Delays(delays, max(part.seconds for part in parts))


@contextmanager
def load_generator() -> Iterator[LoadGenerator]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(_NUM_PROCESSES, mp_context=context) as pool:
        yield LoadGenerator(pool)


def _run(make: Callable[..., Awaitable[Delays]], *arguments: object) -> Delays:
    async def measure() -> Delays:
        return await make(*arguments)

    return asyncio.run(measure())


async def _timed(lookup: Lookup, index: int, due: float, delays: list[float]) -> None:
    await lookup.ask(index)
    delays.append(1000 * (time.perf_counter() - due))


async def _closed(service: Service, names: int, clients: int, seconds: float, seed: int) -> Delays:
    delays: list[float] = []
    draw = random.Random(seed)

    async def client(lookup: Lookup, end: float) -> None:
        while (now := time.perf_counter()) < end:
            await _timed(lookup, draw.randrange(names), now, delays)

    async with connect(service, clients) as lookups:
        began = time.perf_counter()
        await asyncio.gather(*(client(lookup, began + seconds) for lookup in lookups))
        return Delays(tuple(delays), time.perf_counter() - began)


async def _opened(service: Service, names: int, rate: float, seconds: float, seed: int) -> Delays:
    delays: list[float] = []
    draw = random.Random(seed)
    waiting: set[asyncio.Task[None]] = set()
    async with connect(service, 16) as lookups:
        await asyncio.gather(*(lookup.ask(0) for lookup in lookups))
        began = due = time.perf_counter()
        while (due := due + draw.expovariate(rate)) < began + seconds:
            await asyncio.sleep(max(0, due - time.perf_counter()))
            assert len(waiting) < _MAX_WAITING, "the service does not keep up with this rate"
            lookup = lookups[draw.randrange(len(lookups))]
            task = asyncio.create_task(_timed(lookup, draw.randrange(names), due, delays))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
        await asyncio.gather(*waiting)
        return Delays(tuple(delays), time.perf_counter() - began)


async def _once(service: Service, chosen: Sequence[int], clients: int, seed: int) -> Delays:
    del seed  # nothing is drawn
    delays: list[float] = []
    left = iter(chosen)

    async def client(lookup: Lookup) -> None:
        for index in left:
            await _timed(lookup, index, time.perf_counter(), delays)

    async with connect(service, clients) as lookups:
        began = time.perf_counter()
        await asyncio.gather(*map(client, lookups))
        return Delays(tuple(delays), time.perf_counter() - began)
