"""W3C Trace Context: which trace a call is part of, told in its metadata."""

import re
import sys
from collections.abc import Iterable
from typing import Final

TRACE_KEYS: Final = ("traceparent", "tracestate")
_TRACE_PARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")
_MAX_CHARACTERS: Final = 512  # of a tracestate, by the standard


def trace_headers_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str]:
    """The trace context of a call's metadata; empty without one that can be read."""
    headers = {
        key: value
        for key, value in metadata or ()
        if key in TRACE_KEYS and isinstance(value, str) and len(value) <= _MAX_CHARACTERS
    }
    return headers if _TRACE_PARENT.fullmatch(headers.get("traceparent", "")) else {}


def trace_id_of(headers: dict[str, str]) -> str:
    """Of what `trace_headers_of` returned; empty without a trace."""
    parent = headers.get("traceparent", "")
    return parent.split("-")[1] if parent else ""


def current_trace_headers() -> tuple[tuple[str, str], ...]:
    """The running span of this program, if it uses OpenTelemetry: what a client passes on."""
    if "opentelemetry.trace" not in sys.modules:
        return ()
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    return tuple(headers.items())
