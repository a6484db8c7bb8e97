"""S3 or PostgreSQL hangs or dies under load and comes back: bounded errors, nothing lost.

LORIKEET_TEST_FULL=1 python -m pytest -s tests/integration/test_outages.py    # 60 s each
"""

import asyncio
import time
from typing import Literal

import pytest
from grpc import StatusCode, aio

from tests.backends import POSTGRES_15, Backend, Backends
from tests.integration.conftest import MakeRegistry, Registry
from tests.integration.evidence import read_everything
from tests.integration.load import DEADLINE_SECONDS, Load, Outcome
from tests.integration.sizes import IS_FULL, OUTAGE_SECONDS, TEST_SECONDS
from tests.registry.support import Client, make_adapter, make_base_model, make_registered, publish
from tests.servers.ceph import S3Server
from tests.servers.postgresql import PostgresServer

SECONDS_TO_RECOVER = 10.0
SLACK_SECONDS = 1.0  # of clients and servers on a machine that is busy
KINDS = ("publish", "read", "resolve")
# A short outage is noticed by a registry that waits less long than it does by default.
LIMITS = () if IS_FULL else ("--database-seconds=3", "--s3-read-seconds=1")
How = Literal["stopped", "killed"]


@pytest.mark.timeout(TEST_SECONDS)
@pytest.mark.parametrize("backend", [POSTGRES_15], indirect=True)
@pytest.mark.parametrize("how", ["stopped", "killed"])
@pytest.mark.parametrize("what", ["postgres", "s3"])
async def test_an_outage_is_survived(
    make_registry: MakeRegistry,
    backends: Backends,
    backend: Backend,
    what: Literal["postgres", "s3"],
    how: How,
) -> None:
    server = backends.servers.s3 if what == "s3" else backends.postgres(backend.name)
    registry = make_registry("--heartbeat-seconds=1", "--max-open-uploads=100000", *LIMITS)
    address = await asyncio.to_thread(registry.start)
    async with aio.insecure_channel(address) as channel:
        load = await _make_load(registry, channel)
        watching = Client(channel, registry.admin_key, seconds=10 * TEST_SECONDS)
        running = asyncio.create_task(load.run(watching))
        await asyncio.sleep(2)
        began = time.monotonic()
        back = await _outage(server, how)
        await asyncio.sleep(SECONDS_TO_RECOVER + 2)
        load.stop()
        await running
    recovery = _seconds_to_recover(load.outcomes, back)
    print(f"\n{what} {how} for {back - began:.1f} s; whole again after {recovery:.2f} s")
    print(load.summary())
    _check_outcomes(load.outcomes, back)
    await _check_nothing_is_lost(registry, load)


async def _make_load(registry: Registry, channel: aio.Channel) -> Load:
    client = Client(channel, registry.admin_key, seconds=DEADLINE_SECONDS)
    await make_base_model(client)
    adapter = await make_registered(client, "platform", "bot")
    first = await publish(client, adapter, make_adapter(seed=10**9).files())
    load = Load(client, adapter)
    load.acknowledged[1] = first.digest
    return load


async def _outage(server: PostgresServer | S3Server, how: How) -> float:
    """Returns the moment from which the server answers again."""
    stop, start = (
        (server.process.pause, server.process.resume)
        if how == "stopped"
        else (server.process.kill, server.start)
    )
    await asyncio.to_thread(stop)
    await asyncio.sleep(OUTAGE_SECONDS)
    await asyncio.to_thread(start)
    return time.monotonic()


def _seconds_to_recover(outcomes: list[Outcome], back: float) -> float:
    """From the server's return until the last call that failed, or hung, was over."""
    late = [
        outcome.ended
        for outcome in outcomes
        if outcome.ended > back and (outcome.code is not None or outcome.began < back)
    ]
    return max(late, default=back) - back


def _check_outcomes(outcomes: list[Outcome], back: float) -> None:
    overdue = [outcome for outcome in outcomes if outcome.seconds > _limit(outcome)]
    assert not overdue, overdue[:3]
    failed = [outcome for outcome in outcomes if outcome.code is not None]
    wrong = [o for o in failed if o.code != StatusCode.UNAVAILABLE or not o.retry_after]
    assert not wrong, wrong[:3]
    assert failed, "the outage was noticed by nobody"
    assert _seconds_to_recover(outcomes, back) <= SECONDS_TO_RECOVER
    whole = {o.kind for o in outcomes if o.code is None and o.began > back}
    assert whole == set(KINDS)


def _limit(outcome: Outcome) -> float:
    """A publish is three calls; a watch has no end."""
    num_calls = {"publish": 3, "watch": 10**6}.get(outcome.kind, 1)
    return num_calls * (DEADLINE_SECONDS + SLACK_SECONDS)


async def _check_nothing_is_lost(registry: Registry, load: Load) -> None:
    """Also: the watcher saw every change once, in order."""
    evidence = await asyncio.to_thread(read_everything, registry.data_dir, registry.backend)
    found = {number: digest for (_, number), digest in evidence.digests.items()}
    assert load.acknowledged.items() <= found.items()
    assert sorted(found) == list(range(1, len(found) + 1))
    assert load.revisions == list(range(1, len(load.revisions) + 1))
    missed = {f"{load.adapter}/versions/{number}" for number in found} - load.watched
    assert not missed
    print(f"  {len(load.acknowledged)} versions acknowledged, {len(found)} there and whole")
