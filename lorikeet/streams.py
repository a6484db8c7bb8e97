"""Streams of chunks, sync and aio. Closing one cancels the request on the server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Self

import grpc

from lorikeet.completion import Chunk, Completion, CompletionAssembler, Start
from lorikeet.rpc.errors import CancelledByPeerError, from_rpc_error


class GenerationStream(Iterator[Chunk]):
    """Chunks as they come; `completion` is set at the end. A context manager that closes it."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._assembler = CompletionAssembler()
        self._closed = False

    @property
    def start(self) -> Start | None:
        """What was resolved; known from the first chunk on."""
        return self._assembler.start

    @property
    def completion(self) -> Completion | None:
        """The whole generation, once the stream has ended."""
        return self._assembler.completion

    def result(self) -> Completion:
        """Reads to the end and returns the whole generation."""
        for _ in self:
            pass
        return self._assembler.finish()

    def close(self) -> None:
        """Cancels the request if it still runs; the server frees what it held."""
        self._closed = True
        self._call.cancel()

    def __next__(self) -> Chunk:
        try:
            for response in self._call:
                chunk = self._assembler.add(response)
                if chunk is not None:
                    return chunk
        except grpc.RpcError as error:
            if self._closed:
                raise StopIteration from None
            raise from_rpc_error(error) from error
        if not self._closed:
            self._assembler.finish()
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncGenerationStream(AsyncIterator[Chunk]):
    """The same on asyncio; `async with` closes it."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._responses = aiter(call)
        self._assembler = CompletionAssembler()
        self._closed = False

    @property
    def start(self) -> Start | None:
        """What was resolved; known from the first chunk on."""
        return self._assembler.start

    @property
    def completion(self) -> Completion | None:
        """The whole generation, once the stream has ended."""
        return self._assembler.completion

    async def result(self) -> Completion:
        """Reads to the end and returns the whole generation."""
        async for _ in self:
            pass
        return self._assembler.finish()

    async def close(self) -> None:
        """Cancels the request if it still runs; the server frees what it held."""
        self._closed = True
        self._call.cancel()

    async def __anext__(self) -> Chunk:
        if self._closed:
            raise StopAsyncIteration
        try:
            async for response in self._responses:
                chunk = self._assembler.add(response)
                if chunk is not None:
                    return chunk
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        except asyncio.CancelledError:
            if _task_is_cancelled():
                raise
            if self._closed:
                raise StopAsyncIteration from None
            raise CancelledByPeerError(
                "the client was closed while the stream ran", reason="CLIENT_CLOSED"
            ) from None
        self._assembler.finish()
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _task_is_cancelled() -> bool:
    """Tells a cancelled task from a cancelled call: grpc.aio raises CancelledError for both."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
