"""The two drivers of operations, sync and aio, and the methods made from operations."""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import grpc

from lorikeet.connection import Connection
from lorikeet.operations.call import Call, Drain, Operation, Pause
from lorikeet.rpc.errors import from_rpc_error

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class SyncTransport:
    """A connection used without asyncio. Safe to share between threads; close it when done."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channel = connection.open(grpc)

    def close(self) -> None:
        """Closes the connection; streams that run end as cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, operation: Operation[Result]) -> Result:
        try:
            step = next(operation)
            while True:
                try:
                    response = self._perform(step)
                except grpc.RpcError as error:
                    step = operation.throw(from_rpc_error(error))
                else:
                    step = operation.send(response)
        except StopIteration as finished:
            result: Result = finished.value
            return result

    def _perform(self, step: Call[Any] | Drain[Any] | Pause) -> Any:
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        if isinstance(step, Drain):
            stream = self._connection.stream(self._channel, step.call)
            try:
                for response in stream:
                    step.take(response)
            finally:
                stream.cancel()
            return None
        return self._connection.invoke(self._channel, step)


class AsyncTransport:
    """A connection used from one event loop; it opens with the first call."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @functools.cached_property
    def _channel(self) -> Any:
        return self._connection.open(grpc.aio)

    async def close(self) -> None:
        """Closes the connection; streams that run end as cancelled."""
        if "_channel" in self.__dict__:
            await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _run(self, operation: Operation[Result]) -> Result:
        try:
            step = next(operation)
            while True:
                try:
                    response = await self._perform(step)
                except grpc.RpcError as error:
                    step = operation.throw(from_rpc_error(error))
                else:
                    step = operation.send(response)
        except StopIteration as finished:
            result: Result = finished.value
            return result

    async def _perform(self, step: Call[Any] | Drain[Any] | Pause) -> Any:
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        if isinstance(step, Drain):
            stream = self._connection.stream(self._channel, step.call)
            try:
                async for response in stream:
                    step.take(response)
            finally:
                stream.cancel()
            return None
        return await self._connection.invoke(self._channel, step)


def sync_method(
    build: Callable[Parameters, Operation[Result]],
) -> Callable[Concatenate[SyncTransport, Parameters], Result]:
    """The method of a sync client that runs the operation `build` makes."""

    @functools.wraps(build)
    def method(
        client: SyncTransport, /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        return client._run(build(*args, **kwargs))

    return method


def async_method(
    build: Callable[Parameters, Operation[Result]],
) -> Callable[Concatenate[AsyncTransport, Parameters], Awaitable[Result]]:
    """The method of an async client that runs the operation `build` makes."""

    @functools.wraps(build)
    async def method(
        client: AsyncTransport, /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        return await client._run(build(*args, **kwargs))

    return method
