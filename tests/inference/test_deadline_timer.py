"""One deadline over many waits."""

import asyncio

import pytest

from inference_service.deadline import Deadline
from inference_service.deadline_timer import DeadlineTimer
from lorikeet.rpc.errors import DeadlineExceededError, UnavailableError


def _timer(seconds: float) -> DeadlineTimer:
    moment = asyncio.get_running_loop().time() + seconds
    return DeadlineTimer(Deadline(moment, is_callers=False))


async def test_a_wait_that_is_too_long_is_ended() -> None:
    timer = _timer(0.05)
    with timer:
        await asyncio.sleep(0)
    with pytest.raises(DeadlineExceededError), timer:
        await asyncio.Event().wait()
    with pytest.raises(DeadlineExceededError), timer:
        raise AssertionError("a wait began after the end")
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_somebody_elses_cancellation_stays_one() -> None:
    async def work() -> None:
        with _timer(60):
            await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_nothing_happens_between_waits_or_after_the_request() -> None:
    between, ended = _timer(0.01), _timer(0.01)
    ended.close()
    with between:
        pass
    with ended:
        await asyncio.sleep(0.05)


async def test_it_may_end_before_its_deadline() -> None:
    timer = _timer(60)
    reason = UnavailableError("over", reason="OVER")
    asyncio.get_running_loop().call_soon(timer.end, reason)
    for _ in range(2):  # the wait that was under way, and any later one
        with pytest.raises(UnavailableError) as ended, timer:
            await asyncio.Event().wait()
        assert ended.value is reason
    timer.end(UnavailableError("another"))
    with pytest.raises(UnavailableError) as ended, timer:
        raise AssertionError("a wait began after the end")
    assert ended.value is reason
