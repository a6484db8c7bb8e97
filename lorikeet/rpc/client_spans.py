"""Spans of the calls that a service makes to another, which hears of them in its metadata."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import grpc
from grpc import aio
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

# They last as long as a process, or come every second: no request waits for them.
_UNTRACED_METHODS: Final = frozenset({"/lorikeet.registry.v1.AdapterRegistry/WatchAdapters"})

Continuation = Callable[[Any, Any], Any]


def is_traced(path: str) -> bool:
    """Not health checks, reflection and feeds."""
    return not path.startswith("/grpc.") and path not in _UNTRACED_METHODS


def rpc_attributes(path: str) -> dict[str, str]:
    """What the semantic conventions say of /package.Service/Method."""
    service, _, method = path.removeprefix("/").rpartition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}


class _ClientSpans:
    """What both kinds of calls have in common."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def _begin(self, details: Any) -> tuple[trace.Span, Any]:
        """A span under the current one, and the call's details with it in the metadata."""
        path = _path_of(details)
        span = self._tracer.start_span(
            path.removeprefix("/"), kind=trace.SpanKind.CLIENT, attributes=rpc_attributes(path)
        )
        headers: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(headers, trace.set_span_in_context(span))
        metadata = aio.Metadata(*(details.metadata or ()), *headers.items())
        return span, details._replace(metadata=metadata)


class UnarySpans(_ClientSpans, aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    async def intercept_unary_unary(
        self, continuation: Continuation, client_call_details: aio.ClientCallDetails, request: Any
    ) -> Any:
        span, details = self._begin(client_call_details)
        with trace.use_span(span, end_on_exit=True, record_exception=False):
            call = await continuation(details, request)
            _set_code(span, await call.code())
        return call


class StreamSpans(_ClientSpans, aio.UnaryStreamClientInterceptor):  # type: ignore[type-arg]
    """The span ends with the stream, whoever ends it."""

    def __init__(self, tracer: trace.Tracer) -> None:
        super().__init__(tracer)
        self._ending: set[asyncio.Task[None]] = set()

    async def intercept_unary_stream(
        self, continuation: Continuation, client_call_details: aio.ClientCallDetails, request: Any
    ) -> Any:
        if not is_traced(_path_of(client_call_details)):
            return await continuation(client_call_details, request)
        span, details = self._begin(client_call_details)
        call = await continuation(details, request)
        ending = asyncio.create_task(_end(span, call))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        return call


async def _end(span: trace.Span, call: Any) -> None:
    try:
        _set_code(span, await call.code())
    finally:
        span.end()


def _set_code(span: trace.Span, code: grpc.StatusCode) -> None:
    span.set_attribute("rpc.grpc.status_code", code.value[0])
    if code is not grpc.StatusCode.OK:
        span.set_status(trace.StatusCode.ERROR, code.name)


def _path_of(details: aio.ClientCallDetails) -> str:
    method: bytes | str = details.method
    return method.decode() if isinstance(method, bytes) else method
