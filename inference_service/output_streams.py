"""The engine's outputs for the completions of one request, as they come."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence

from inference_service.engine.request import TokenOutput

OutputStream = AsyncGenerator[TokenOutput, None]


class OutputStreams:
    """Several streams as one; each is read ahead by at most one output.

    `aclose` ends all of them, whoever calls it while nobody waits in `next`.
    """

    def __init__(self, streams: Sequence[OutputStream]) -> None:
        self._streams = dict(enumerate(streams))
        self._waiting: dict[asyncio.Task[TokenOutput | None], int] = {}
        self._ready: deque[asyncio.Task[TokenOutput | None]] = deque()

    @property
    def num_open(self) -> int:
        return len(self._streams)

    async def next(self) -> tuple[int, TokenOutput | None]:
        """The index of an open stream and what it said next; None when it ended instead.

        Raises what a stream raises.
        """
        if len(self._streams) == 1 and not self._waiting:
            ((index, stream),) = self._streams.items()
            return index, await anext(stream, None)
        if not self._ready:
            self._read_ahead()
            done, _ = await asyncio.wait(self._waiting, return_when=asyncio.FIRST_COMPLETED)
            self._ready.extend(sorted(done, key=self._waiting.__getitem__))
        task = self._ready.popleft()
        return self._waiting.pop(task), task.result()

    async def close(self, index: int) -> None:
        """Ends one stream, which has just said something."""
        await self._streams.pop(index).aclose()

    async def aclose(self) -> None:
        """Ends all streams that are still open; the engine lets go of their requests."""
        streams, self._streams = list(self._streams.values()), {}
        tasks, self._waiting = list(self._waiting), {}
        self._ready.clear()
        try:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for stream in streams:
                await stream.aclose()

    def _read_ahead(self) -> None:
        reading = set(self._waiting.values())
        for index, stream in self._streams.items():
            if index not in reading:
                self._waiting[asyncio.ensure_future(anext(stream, None))] = index
