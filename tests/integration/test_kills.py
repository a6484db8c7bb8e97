"""The registry is killed at random points of uploads, again and again, and loses nothing.

LORIKEET_TEST_FULL=1 python -m pytest -s tests/integration/test_kills.py    # 200 points
"""

import asyncio
import random
import time
from collections import Counter

import pytest
from grpc import aio

from tests.backends import EMBEDDED, POSTGRES_15
from tests.integration.conftest import MakeRegistry, Registry
from tests.integration.evidence import read_everything
from tests.integration.sizes import NUM_KILLS, TEST_SECONDS
from tests.integration.uploaders import Uploader
from tests.registry.support import Client, make_base_model, make_registered

NUM_UPLOADERS = 4
MAX_UPLOADS = 3  # about so many, one after the other, until the kill


@pytest.mark.timeout(TEST_SECONDS)
@pytest.mark.parametrize("backend", [EMBEDDED, POSTGRES_15], indirect=True)
async def test_killed_at_any_point_nothing_is_half(make_registry: MakeRegistry) -> None:
    seed = random.randrange(2**32)
    print(f"\nseed {seed}")
    draw = random.Random(seed)
    registry = make_registry("--max-open-uploads=1000")
    address = await asyncio.to_thread(registry.start)
    uploaders, seconds = await _make_uploaders(registry, address, draw)
    phases: Counter[str] = Counter()
    checked: frozenset[tuple[str, int]] = frozenset()
    restarts: list[float] = []
    for _ in range(NUM_KILLS):
        await _upload_until_killed(registry, address, uploaders, draw.uniform(0, seconds))
        began = time.monotonic()
        address = await asyncio.to_thread(registry.start)
        restarts.append(time.monotonic() - began)
        await _check(registry, uploaders, checked)  # before anything is resumed
        async with aio.insecure_channel(address) as channel:
            client = Client(channel, registry.admin_key)
            await asyncio.gather(*(each.resume(client, phases) for each in uploaders))
        checked, _ = await _check(registry, uploaders, checked)
    checked, num_bytes = await _check(registry, uploaders, frozenset())
    print(
        f"{registry.backend.name}: {NUM_KILLS} kills during {dict(phases)}; {len(checked)} "
        f"versions, {num_bytes / 2**20:.0f} MiB, all whole; every cut upload was finished; restart "
        f"median {sorted(restarts)[NUM_KILLS // 2]:.2f} s, worst {max(restarts):.2f} s"
    )


async def _make_uploaders(
    registry: Registry, address: str, draw: random.Random
) -> tuple[list[Uploader], float]:
    """Also the seconds that they may go on until a kill."""
    async with aio.insecure_channel(address) as channel:
        client = Client(channel, registry.admin_key)
        await make_base_model(client)
        names = [
            await make_registered(client, "platform", f"bot-{number}")
            for number in range(NUM_UPLOADERS)
        ]
        uploaders = [Uploader(name, random.Random(draw.random())) for name in names]
        began = time.monotonic()
        await asyncio.gather(*(each.publish(client) for each in uploaders))
    return uploaders, MAX_UPLOADS * (time.monotonic() - began)


async def _upload_until_killed(
    registry: Registry, address: str, uploaders: list[Uploader], seconds: float
) -> None:
    async with aio.insecure_channel(address) as channel:
        client = Client(channel, registry.admin_key)
        running = asyncio.gather(*(each.run_until_lost(client) for each in uploaders))
        await asyncio.wait([running], timeout=seconds)
        await asyncio.to_thread(registry.kill)
        await running


async def _check(
    registry: Registry, uploaders: list[Uploader], known: frozenset[tuple[str, int]]
) -> tuple[frozenset[tuple[str, int]], int]:
    """Every version is whole, numbers are dense, and none that was acknowledged is missing."""
    evidence = await asyncio.to_thread(read_everything, registry.data_dir, registry.backend, known)
    for uploader in uploaders:
        adapter = uploader.adapter.rpartition("/")[2]
        found = {
            number: digest for (name, number), digest in evidence.digests.items() if name == adapter
        }
        assert sorted(found) == list(range(1, len(found) + 1))
        assert uploader.acknowledged.items() <= found.items()
    return frozenset(evidence.digests), evidence.num_bytes
