"""The server's outermost layer: every call ends in its result or in exactly one rich status."""

import asyncio
import contextlib
import inspect
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import grpc
from grpc import aio

from lorikeet.rpc.call_record import current_call
from lorikeet.rpc.errors import InternalError, LorikeetError, UnavailableError, UnimplementedError
from lorikeet.rpc.handlers import Handler, with_behavior
from lorikeet.rpc.observation import Observation, Observer

logger = logging.getLogger(__name__)


class ErrorInterceptor(aio.ServerInterceptor):  # type: ignore[type-arg]  # generic only in the stubs
    """Turns exceptions of handlers into statuses; streams are iterated inside the `try`.

    `observers` are told of every call and of the status it ends with.
    """

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observation = Observation(observers) if observers else None

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return handler
        method = handler_call_details.method
        return with_behavior(handler, partial(self._wrapped, method, handler.response_streaming))

    def _wrapped(self, method: str, is_stream: bool, behavior: Handler) -> Handler:
        guarded = (_guard_stream if is_stream else _guard_unary)(method, behavior)
        if self._observation is None:
            return guarded
        observe = self._observation.stream if is_stream else self._observation.unary
        return observe(method, guarded)


def _guard_unary(method: str, behavior: Handler) -> Handler:
    async def guarded(request: Any, context: Any) -> Any:
        try:
            result = behavior(request, context)
            return await result if inspect.isawaitable(result) else result
        except BaseException as error:
            await _abort(method, error, context)

    return guarded


def _guard_stream(method: str, behavior: Handler) -> Handler:
    async def guarded(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            responses = behavior(request, context)
            if inspect.isawaitable(responses):  # it writes by itself, as health's Watch does
                await responses
                return
            async with contextlib.aclosing(responses):
                async for response in responses:
                    yield response
        except GeneratorExit:
            raise
        except BaseException as error:
            await _abort(method, error, context)

    return guarded


async def _abort(method: str, error: BaseException, context: Any) -> None:
    if isinstance(error, aio.AbortError):
        raise error
    if isinstance(error, asyncio.CancelledError) and context.cancelled():
        raise error  # the client has gone: there is nobody left to answer
    answer = _as_lorikeet_error(method, error)
    record = current_call()
    record.code, record.reason = answer.code, answer.reason
    await context.abort_with_status(answer.to_status())


def _as_lorikeet_error(method: str, error: BaseException) -> LorikeetError:
    if isinstance(error, LorikeetError):
        return error
    if isinstance(error, NotImplementedError):  # what generated servicers raise
        return UnimplementedError(f"{method} is not implemented by this server")
    if isinstance(error, asyncio.CancelledError):
        # A handler that lets this escape would leave a client without a deadline hanging.
        return UnavailableError("the server is shutting down", reason="SHUTTING_DOWN")
    incident = uuid.uuid4().hex
    logger.exception("unhandled error in %s, incident %s", method, incident, exc_info=error)
    return InternalError(
        f"internal error, incident {incident}", reason="INTERNAL", metadata={"incident": incident}
    )
