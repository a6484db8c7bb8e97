"""OpenTelemetry spans of the calls that a server serves and makes, exported over OTLP.

opentelemetry-instrumentation-grpc was looked at first (0.66b2) and is not used: its server side
does not see `abort_with_status`, with which every error of ours ends; it copies the context object
of each call; and as a beta it pins the versions of the stable API. The observer is told of the
status anyway, so that what is left are these few lines. Import it by `telemetry.open_tracing`.
"""

import importlib.metadata
import os
from collections.abc import Sequence
from threading import Thread
from typing import Any, Final

import grpc
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from lorikeet.rpc.call_record import CallRecord
from lorikeet.rpc.client_spans import StreamSpans, UnarySpans, is_traced, rpc_attributes

_CLOSE_SECONDS: Final = 3.0
# Of these a server is to blame; the others are the caller's, by the semantic conventions.
_SERVER_ERRORS: Final = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


class Tracing:
    """The traces of one service. It sets no global of OpenTelemetry's."""

    def __init__(self, service: str, endpoint: str | None) -> None:
        """`endpoint` None: the environment's; http:// is plaintext, https:// is TLS."""
        version = importlib.metadata.version("lorikeet")
        attributes = {"service.version": version}
        if not os.environ.get("OTEL_SERVICE_NAME"):
            attributes["service.name"] = service
        self._provider = TracerProvider(
            resource=Resource.create(attributes), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self.tracer = self._provider.get_tracer("lorikeet", version)

    def observer(self) -> "ServerSpans":
        """For the servers of this service."""
        return ServerSpans(self.tracer)

    def client_interceptors(self) -> Sequence[Any]:
        """For the channels of this service: one span a call, and the trace goes along."""
        return (UnarySpans(self.tracer), StreamSpans(self.tracer))

    def close(self) -> None:
        """Sends what is left. A collector that does not answer is given up in a few seconds."""
        closing = Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)


class ServerSpans:
    """An Observer: a span for each call, under the caller's span if it told of one.

    The span is the current one of the call's task until that ends, and is never detached: each
    call has a task, and a context, of its own.
    """

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self._spans: dict[int, trace.Span] = {}

    def started(self, record: CallRecord) -> None:
        if not is_traced(record.path):
            return
        span = self._tracer.start_span(
            record.path.removeprefix("/"),
            TraceContextTextMapPropagator().extract(record.trace_headers),
            trace.SpanKind.SERVER,
            rpc_attributes(record.path),
        )
        self._spans[id(record)] = span
        record.trace_id = trace.format_trace_id(span.get_span_context().trace_id)
        otel_context.attach(trace.set_span_in_context(span))

    def ended(self, record: CallRecord) -> None:
        span = self._spans.pop(id(record), None)
        if span is None:
            return
        told = {
            "rpc.grpc.status_code": record.code.value[0],
            "error.type": record.reason,
            "lorikeet.request_id": record.request_id,
            "lorikeet.principal": record.principal,
            "lorikeet.tenant": record.tenant,
        }
        span.set_attributes({key: value for key, value in told.items() if value != ""})
        if record.code in _SERVER_ERRORS:
            span.set_status(trace.StatusCode.ERROR, record.code.name)
        span.end()
