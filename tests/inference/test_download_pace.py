"""Downloads share a rate while streams are served on the same processors."""

import asyncio

import pytest

from inference_service.adapters import download_pace
from inference_service.adapters.download_pace import DownloadPace


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each rest, which take no time."""
    seconds: list[float] = []

    async def rest(delay: float) -> None:
        seconds.append(delay)

    monkeypatch.setattr(download_pace, "sleep", rest)
    return seconds


async def test_nothing_waits_while_nobody_is_served(slept: list[float]) -> None:
    await DownloadPace(lambda: False).rest(1 << 30)
    assert not slept


async def test_downloads_share_one_rate(slept: list[float]) -> None:
    pace = DownloadPace(lambda: True)
    one_second = download_pace.BYTES_PER_SECOND
    await asyncio.gather(*(pace.rest(one_second) for _ in range(3)))
    assert slept == pytest.approx([1.0, 2.0, 3.0], abs=0.5)


async def test_a_time_without_downloads_is_not_made_up_for(slept: list[float]) -> None:
    is_busy = [True]
    pace = DownloadPace(lambda: is_busy[0])
    await pace.rest(1)
    is_busy[0] = False
    await pace.rest(1 << 40)
    is_busy[0] = True
    await pace.rest(download_pace.BYTES_PER_SECOND)
    assert slept[-1] == pytest.approx(1.0, abs=0.5)
