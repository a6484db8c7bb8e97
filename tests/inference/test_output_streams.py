"""Several engine streams as one: in order, each to its end, none left behind."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from inference_service.engine.request import TokenOutput
from inference_service.output_streams import OutputStreams
from tests.inference.scripted_engine import tokens


class Source:
    """A stream that says what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[TokenOutput | Exception | None] = asyncio.Queue()
        self.closed = False

    async def stream(self) -> AsyncGenerator[TokenOutput, None]:
        try:
            while (said := await self.said.get()) is not None:
                if isinstance(said, Exception):
                    raise said
                yield said
        finally:
            self.closed = True


@pytest.fixture(params=[1, 3])
def sources(request: pytest.FixtureRequest) -> list[Source]:
    return [Source() for _ in range(request.param)]


def streams_of(sources: list[Source]) -> OutputStreams:
    return OutputStreams([source.stream() for source in sources])


async def test_whatever_comes_first_is_next(sources: list[Source]) -> None:
    streams = streams_of(sources)
    for index in reversed(range(len(sources))):
        sources[index].said.put_nowait(tokens(index, finish="stop"))
        assert await streams.next() == (index, tokens(index, finish="stop"))
        await streams.close(index)
        assert sources[index].closed
    assert streams.num_open == 0


async def test_nobody_is_passed_over(sources: list[Source]) -> None:
    for _ in range(4):
        for source in sources:
            source.said.put_nowait(tokens(1))
    streams = streams_of(sources)
    heard = [(await streams.next())[0] for _ in range(4 * len(sources))]
    assert heard == list(range(len(sources))) * 4
    await streams.aclose()


async def test_closing_one_leaves_the_others() -> None:
    sources = [Source() for _ in range(3)]
    streams = streams_of(sources)
    sources[1].said.put_nowait(tokens(1))
    assert (await streams.next())[0] == 1
    await streams.close(1)
    assert [source.closed for source in sources] == [False, True, False]
    for index in (0, 2):
        sources[index].said.put_nowait(tokens(2))
        assert (await streams.next())[0] == index
    await streams.aclose()
    assert all(source.closed for source in sources)


async def test_closing_all_while_they_are_waited_for(sources: list[Source]) -> None:
    streams = streams_of(sources)
    sources[0].said.put_nowait(tokens(0))
    await streams.next()  # the others have begun to wait
    await asyncio.gather(streams.aclose(), streams.aclose())
    assert all(source.closed for source in sources)
    assert streams.num_open == 0


async def test_a_cancelled_wait_leaves_nothing_open(sources: list[Source]) -> None:
    streams = streams_of(sources)
    waiting = asyncio.ensure_future(streams.next())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await streams.aclose()
    await asyncio.sleep(0)
    assert streams.num_open == 0
    assert all(source.closed for source in sources)


async def test_what_one_raises_is_raised(sources: list[Source]) -> None:
    streams = streams_of(sources)
    for source in sources:
        source.said.put_nowait(ValueError("no more"))
    with pytest.raises(ValueError, match="no more"):
        await streams.next()
    await streams.aclose()
    assert all(source.closed for source in sources)


async def test_an_end_without_a_last_word_is_told(sources: list[Source]) -> None:
    sources[0].said.put_nowait(None)
    streams = streams_of(sources)
    assert await streams.next() == (0, None)
    await streams.aclose()
