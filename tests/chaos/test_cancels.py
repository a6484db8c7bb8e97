"""Thousands of calls given up at random moments leave nothing behind.

LORIKEET_TEST_FULL=1 python -m pytest -s tests/chaos/test_cancels.py    # 10,000
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from lorikeet import AsyncClient
from lorikeet.rpc.errors import LorikeetError
from tests.chaos.evidence import show
from tests.chaos.held import HeldWatch, held, size
from tests.chaos.lab import TENANTS, Lab, Question, ask
from tests.chaos.sizes import NUM_CANCELS, SECONDS_TO_FREE, TEST_SECONDS

NUM_CALLERS = 96  # six times what the engine runs at once, so that many wait
MAX_PATIENCE_SECONDS = 2.0
MAX_PATIENCE_CHUNKS = 30


@pytest.mark.timeout(TEST_SECONDS)
async def test_whenever_calls_are_cancelled_nothing_stays(lab: Lab) -> None:
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    before = await size(lab)
    async with lab.clients() as clients, lab.admin() as admin:
        async with HeldWatch(admin) as watch, _adapters_come_and_go(clients, draw):
            began = time.monotonic()
            moments = await _cancel_all(lab, clients, draw)
            ended = time.monotonic()
        while not (await held(admin)).is_nothing:
            assert time.monotonic() < ended + 60, await held(admin)
        seconds = time.monotonic() - ended
        for question in lab.questions():  # whoever asks now is answered, and rightly
            answer = await ask(clients[question.tenant], question)
            assert lab.is_right(answer, question.prompt)
    after = await size(lab)
    show(
        f"{NUM_CANCELS} cancels, seed {seed}",
        {
            "cancelled": ", ".join(f"{count} {moment}" for moment, count in moments.items()),
            "per second": f"{NUM_CANCELS / (ended - began):.0f}",
            "most held": watch.most,
            "nothing held after": f"{seconds:.2f} s",
            "size before": before,
            "size after": after,
        },
    )
    assert not (unhandled := lab.unhandled_errors()), unhandled[0]
    assert seconds <= SECONDS_TO_FREE
    assert after.calls <= before.calls
    assert after.tasks <= before.tasks + 4


async def _cancel_all(
    lab: Lab, clients: dict[str, AsyncClient], draw: random.Random
) -> Counter[str]:
    moments: Counter[str] = Counter()
    left = iter(range(NUM_CANCELS))
    questions = lab.questions()

    async def caller() -> None:
        for _ in left:
            question = draw.choice(questions)
            moments[await _cancelled(clients[question.tenant], question, draw)] += 1

    await asyncio.gather(*(caller() for _ in range(NUM_CALLERS)))
    return moments


async def _cancelled(client: AsyncClient, question: Question, draw: random.Random) -> str:
    """Begins a long answer and leaves it after a while or after some chunks; says when that was."""
    stream = client.generate_stream(
        question.prompt, question.adapter, max_tokens=500, temperature=0.0, ignore_eos=True
    )
    num_chunks, max_chunks = 0, draw.randrange(MAX_PATIENCE_CHUNKS)
    async with stream:
        with suppress(TimeoutError):
            async with asyncio.timeout(draw.random() * MAX_PATIENCE_SECONDS):
                async for _ in stream:
                    num_chunks += 1
                    if num_chunks > max_chunks:
                        break
    if num_chunks:
        return "in the middle"
    return "before the first token" if stream.start else "before the start"


@asynccontextmanager
async def _adapters_come_and_go(
    clients: dict[str, AsyncClient], draw: random.Random
) -> AsyncIterator[None]:
    """Adapters are unloaded whenever nobody uses them, so that calls often wait for one."""

    async def unload() -> None:
        while True:
            tenant, version = draw.choice(TENANTS), draw.choice((1, 2))
            with suppress(LorikeetError):  # in use: the next one may not be
                await clients[tenant].unload(f"helper@{version}")
            await asyncio.sleep(0.02)

    unloading = asyncio.create_task(unload())
    try:
        yield
    finally:
        unloading.cancel()
        await asyncio.gather(unloading, return_exceptions=True)
