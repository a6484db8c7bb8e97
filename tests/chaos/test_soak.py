"""Kills, stalls and restarts under load, one after the other: who asked is answered or told why.

LORIKEET_TEST_FULL=1 python -m pytest -s tests/chaos/test_soak.py    # 30 minutes, one a minute
"""

import asyncio
import itertools
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from grpc import StatusCode, aio

from lorikeet.rpc.errors import LorikeetError
from tests.backends import POSTGRES_15, Backends
from tests.chaos.calls import HUNG, OK, UNFINISHED, Outcome, call_once, summary
from tests.chaos.evidence import show
from tests.chaos.held import Held, Size, held, size
from tests.chaos.lab import NUM_TOKENS, TENANTS, Files, Lab, running_lab
from tests.chaos.sizes import FAULT_EVERY_SECONDS, SOAK_SECONDS, TEST_SECONDS
from tests.inference.world import User
from tests.servers.ceph import S3Server

NUM_CALLERS = 24
WARM_UP_SECONDS = 5.0
STALL_SECONDS = 3.0
MAX_GROWTH_MIB = 48.0  # allocators keep what the largest moment took


@pytest_asyncio.fixture
async def lab(
    files: Files,
    backends: Backends,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Lab]:
    """With its registry on PostgreSQL and S3, and an engine that is soon found to hang."""
    with backends.fresh(POSTGRES_15) as backend:
        for name, value in backend.environment.items():
            monkeypatch.setenv(name, value)
        async with running_lab(files, tmp_path, ["--engine-stall-seconds", "4"]) as running:
            yield running


@dataclass
class Soak:
    """Callers of every tenant, and someone who moves aliases and forgets adapters."""

    lab: Lab
    draw: random.Random
    users: Mapping[str, User]
    outcomes: list[Outcome] = field(default_factory=list)
    num_moves: int = 0
    stopping: bool = False

    async def run(self) -> None:
        """Until `stopping`."""
        await asyncio.gather(*(self._ask() for _ in range(NUM_CALLERS)), self._move())

    async def _ask(self) -> None:
        questions = self.lab.questions()
        while not self.stopping:
            question = self.draw.choice(questions)
            max_tokens = self.draw.randint(1, NUM_TOKENS)
            outcome = await call_once(self.users[question.tenant], question, max_tokens)
            self.outcomes.append(outcome)
            if outcome.error is not None:
                await asyncio.sleep(min(1.0, outcome.error.retry_after or 0.1))

    async def _move(self) -> None:
        """Aliases move, and files go from disk, so that the next request needs the registry."""
        async with self.lab.stack.async_admin() as admin, self.lab.clients() as clients:
            while not self.stopping:
                tenant, number = self.draw.choice(TENANTS), self.draw.choice((1, 2))
                with suppress(LorikeetError):  # the registry or the engine may be down
                    await admin.set_alias(f"{tenant}/helper", "stable", number)
                    self.num_moves += 1
                    await clients[tenant].unload(f"helper@{number}", delete_from_disk=True)
                await asyncio.sleep(0.3)


@pytest.mark.timeout(TEST_SECONDS)
async def test_whatever_fails_calls_end_once_and_rightly(lab: Lab, backends: Backends) -> None:
    seed = random.randrange(2**32)
    faults: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(aio.insecure_channel(lab.stack.inference_address))
        users = {tenant: User(channel, lab.keys[tenant]) for tenant in TENANTS}
        soak = Soak(lab, random.Random(seed), users)
        running = asyncio.create_task(soak.run())
        await asyncio.sleep(WARM_UP_SECONDS)
        before = await size(lab)
        await _do_faults(lab, backends.servers.s3, faults)
        soak.stopping = True
        await running
        after, left = await _at_rest(lab)
    _show(lab, soak, seed, faults, (before, after), left)
    _check(lab, soak, (before, after), left)


async def _do_faults(lab: Lab, s3: S3Server, faults: Counter[str]) -> None:
    kinds: dict[str, Callable[[], Awaitable[None]]] = {
        "engine killed": lambda: _kill_engine(lab),
        "registry killed": lambda: _restart_registry(lab),
        "S3 stalled": lambda: _stall(s3),
        "engine stopped": lambda: _stop_engine(lab),
    }
    end = time.monotonic() + SOAK_SECONDS
    for kind in itertools.cycle(kinds):
        await asyncio.sleep(FAULT_EVERY_SECONDS)
        if time.monotonic() > end:
            return
        await kinds[kind]()
        faults[kind] += 1


async def _kill_engine(lab: Lab) -> None:
    await lab.signal_engine(signal.SIGKILL)


async def _stop_engine(lab: Lab) -> None:
    """It stays alive and says nothing, until somebody notices."""
    await lab.signal_engine(signal.SIGSTOP)


async def _restart_registry(lab: Lab) -> None:
    assert lab.stack.registry is not None
    await asyncio.to_thread(lab.stack.registry.stop, 0)
    await asyncio.to_thread(lab.stack.start_registry)


async def _stall(s3: S3Server) -> None:
    await asyncio.to_thread(s3.process.pause)
    await asyncio.sleep(STALL_SECONDS)
    await asyncio.to_thread(s3.process.resume)


async def _at_rest(lab: Lab) -> tuple[Size, Held]:
    """Once the engine is up again and nothing runs."""
    async with lab.admin() as admin, asyncio.timeout(60):
        while True:
            with suppress(LorikeetError):
                left = await held(admin)
                if left.is_nothing:
                    return await size(lab), left
            await asyncio.sleep(0.1)


def _show(
    lab: Lab,
    soak: Soak,
    seed: int,
    faults: Counter[str],
    sizes: tuple[Size, Size],
    left: Held,
) -> None:
    outcomes = soak.outcomes
    show(
        f"soak of {SOAK_SECONDS:.0f} s, seed {seed}",
        {
            "faults": ", ".join(f"{count} {kind}" for kind, count in faults.items()),
            "calls": f"{len(outcomes)}: {summary(outcomes)}",
            "cut after their start": sum(o.has_started and o.end != OK for o in outcomes),
            "aliases moved": soak.num_moves,
            "hung": sum(outcome.end == HUNG for outcome in outcomes),
            "wrong adapters": sum(not outcome.is_right(lab) for outcome in outcomes),
            "tokens of others": sum(outcome.is_anothers(lab) for outcome in outcomes),
            "size early": sizes[0],
            "size at the end": sizes[1],
            "left": left,
        },
    )


def _check(lab: Lab, soak: Soak, sizes: tuple[Size, Size], left: Held) -> None:
    outcomes = soak.outcomes
    assert not (unhandled := lab.unhandled_errors()), unhandled[0]
    assert not [outcome for outcome in outcomes if outcome.end in (HUNG, UNFINISHED)]
    assert not [outcome for outcome in outcomes if not outcome.is_right(lab)]
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    assert {error.code for error in errors} <= {StatusCode.UNAVAILABLE}, summary(outcomes)
    assert errors, "nobody noticed any fault"
    assert sum(outcome.end == OK for outcome in outcomes) > len(outcomes) / 2
    before, after = sizes
    assert after.resident_mib < before.resident_mib + MAX_GROWTH_MIB
    assert after.tasks <= before.tasks
    assert after.descriptors <= before.descriptors + 8
    assert after.calls == 0
    assert left.is_nothing
