"""Observers are told of every call a server serves: when it starts, and how it ended."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, Protocol

import grpc

from lorikeet.rpc.call_record import CallRecord, begin_call
from lorikeet.rpc.handlers import Handler
from lorikeet.rpc.trace_context import trace_headers_of


class Observer(Protocol):
    """Told of every call, in the event loop: it must not block."""

    def started(self, record: CallRecord) -> None: ...

    def ended(self, record: CallRecord) -> None: ...


class Observation:
    """Puts observers around handlers that have an error's status ready when they raise."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def unary(self, method: str, behavior: Handler) -> Handler:
        async def observed(request: Any, context: Any) -> Any:
            with self._observing(method, context):
                return await behavior(request, context)

        return observed

    def stream(self, method: str, behavior: Handler) -> Handler:
        async def observed(request: Any, context: Any) -> AsyncIterator[Any]:
            with self._observing(method, context):
                async with aclosing(behavior(request, context)) as responses:
                    async for response in responses:
                        yield response

        return observed

    @contextmanager
    def _observing(self, method: str, context: Any) -> Iterator[None]:
        headers = trace_headers_of(context.invocation_metadata())
        record = begin_call(method, context.peer(), headers)
        for observer in self._observers:
            observer.started(record)
        try:
            yield
        except BaseException as error:
            if record.code is grpc.StatusCode.OK:  # not one of our errors
                record.code = _code_of(error)
            raise
        finally:
            record.seconds = time.perf_counter() - record.started
            for observer in self._observers:
                observer.ended(record)


def _code_of(error: BaseException) -> grpc.StatusCode:
    """Our errors have said their code before: this one left, or health aborted by itself."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return grpc.StatusCode.CANCELLED
    return grpc.StatusCode.UNKNOWN
