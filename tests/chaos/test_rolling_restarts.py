"""Two replicas, restarted one after the other under load: who asks is answered by one of them.

LORIKEET_TEST_FULL=1 python -m pytest -s tests/chaos/test_rolling_restarts.py    # 100 restarts
"""

import asyncio
import random
import shutil
import statistics
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from grpc import aio

from lorikeet.local import LocalStack
from lorikeet.rpc.errors import UnavailableError
from tests.chaos.calls import OK, Outcome, call_once, summary
from tests.chaos.evidence import show
from tests.chaos.lab import ENGINE_ARGUMENTS, NUM_TOKENS, TENANTS, Lab
from tests.chaos.sizes import NUM_ROLLING_RESTARTS, TEST_SECONDS
from tests.inference.world import User

NUM_CALLERS = 12
GRACE_SECONDS = 15.0  # more than the services' own
PAUSE_SECONDS = 1.0  # both serve
MAX_TRIES = 100
TRY_SECONDS = 0.1
# Channels look for a server that was away about as often as it is started.
OPTIONS = [("grpc.max_reconnect_backoff_ms", 500), ("grpc.min_reconnect_backoff_ms", 200)]


@dataclass
class Answered:
    """How one question was answered in the end, and by how many tries before."""

    last: Outcome
    refusals: list[Outcome] = field(default_factory=list)


@dataclass
class Load:
    """Callers that go to another replica when one will not begin; never once it has begun."""

    lab: Lab
    users: list[Mapping[str, User]]
    draw: random.Random
    answered: list[Answered] = field(default_factory=list)
    stopping: bool = False

    async def run(self) -> None:
        await asyncio.gather(*(self._ask() for _ in range(NUM_CALLERS)))

    async def _ask(self) -> None:
        questions = self.lab.questions()
        while not self.stopping:
            question = self.draw.choice(questions)
            max_tokens = self.draw.randint(1, NUM_TOKENS)
            refusals: list[Outcome] = []
            for number in range(MAX_TRIES):
                users = self.users[(number + self.draw.randrange(2)) % 2]
                outcome = await call_once(users[question.tenant], question, max_tokens)
                if outcome.end == OK or outcome.has_started:
                    break
                refusals.append(outcome)
                await asyncio.sleep(TRY_SECONDS)
            self.answered.append(Answered(outcome, refusals))


@pytest.mark.timeout(TEST_SECONDS)
async def test_restarts_one_after_the_other_lose_no_stream(lab: Lab, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    async with AsyncExitStack() as stack:
        second = await stack.enter_async_context(_replica(lab, tmp_path))
        replicas = [lab.stack, second]
        users = [await stack.enter_async_context(_users(lab, each)) for each in replicas]
        load = Load(lab, users, random.Random(seed))
        running = asyncio.create_task(load.run())
        seconds = [await _restarted(replicas[number % 2]) for number in range(NUM_ROLLING_RESTARTS)]
        load.stopping = True
        await running
    outcomes = [each.last for each in load.answered]
    refusals = [refusal for each in load.answered for refusal in each.refusals]
    show(
        f"{NUM_ROLLING_RESTARTS} rolling restarts, seed {seed}",
        {
            "calls": f"{len(outcomes)}: {summary(outcomes)}",
            "lost streams": sum(o.has_started and o.end != OK for o in outcomes),
            "wrong adapters": sum(not outcome.is_right(lab) for outcome in outcomes),
            "refused before they began": f"{len(refusals)}: {summary(refusals)}",
            "most tries": max(1 + len(each.refusals) for each in load.answered),
            "seconds to stop": f"median {statistics.median(seconds):.2f}, worst {max(seconds):.2f}",
        },
    )
    assert {outcome.end for outcome in outcomes} == {OK}
    assert all(outcome.is_right(lab) for outcome in outcomes)
    assert {type(refusal.error) for refusal in refusals} <= {UnavailableError}
    assert max(seconds) < GRACE_SECONDS


@asynccontextmanager
async def _replica(lab: Lab, directory: Path) -> AsyncIterator[LocalStack]:
    """Another inference service on the same registry, with a data directory of its own."""
    replica = LocalStack(
        lab.files.model,
        lab.stack.base_model_id,
        data_dir=directory,
        inference_args=ENGINE_ARGUMENTS,
    )
    replica.registry_address = lab.stack.registry_address
    (replica.data_dir / "registry").mkdir()
    shutil.copy(lab.stack.data_dir / "registry" / "credentials.json", directory / "registry")
    try:
        await asyncio.to_thread(replica.start_inference)
        yield replica
    finally:
        await asyncio.to_thread(replica.stop)


@asynccontextmanager
async def _users(lab: Lab, replica: LocalStack) -> AsyncIterator[Mapping[str, User]]:
    async with aio.insecure_channel(replica.inference_address, options=OPTIONS) as channel:
        yield {tenant: User(channel, lab.keys[tenant]) for tenant in TENANTS}


async def _restarted(replica: LocalStack) -> float:
    """SIGTERM under load, and a new process; returns the seconds until the old one had ended."""
    assert replica.inference is not None
    began = time.monotonic()
    await asyncio.to_thread(replica.inference.stop, GRACE_SECONDS)
    seconds = time.monotonic() - began
    await asyncio.to_thread(replica.start_inference)
    await asyncio.sleep(PAUSE_SECONDS)
    return seconds
