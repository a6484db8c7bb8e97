"""What is known of the call that a task serves; filled in while it runs."""

import time
from contextvars import ContextVar
from dataclasses import dataclass, field

import grpc

from lorikeet.rpc.trace_context import trace_id_of


@dataclass
class CallRecord:
    """One call. `method` is Service/Method; who called is empty until it is known."""

    method: str
    path: str = ""  # /package.Service/Method
    peer: str = ""
    trace_headers: dict[str, str] = field(default_factory=dict)
    request_id: str = ""
    principal: str = ""
    tenant: str = ""
    is_write: bool = False
    trace_id: str = ""  # of the W3C trace the call is part of
    reason: str = ""  # ErrorInfo's, of a call that failed
    code: grpc.StatusCode = grpc.StatusCode.OK
    started: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0


# The call that the running task serves; each task has its own value.
_current: ContextVar[CallRecord | None] = ContextVar("current_call", default=None)


def current_call() -> CallRecord:
    """The record of the call this task serves; where nobody observes calls, one nobody reads."""
    return _current.get() or CallRecord("")


def begin_call(path: str, peer: str, trace_headers: dict[str, str]) -> CallRecord:
    """Makes a record the running task's."""
    record = CallRecord(_short(path), path, peer, trace_headers)
    record.trace_id = trace_id_of(trace_headers)
    _current.set(record)
    return record


def _short(path: str) -> str:
    """`/lorikeet.registry.v1.AdapterRegistry/GetAdapter` → `AdapterRegistry/GetAdapter`."""
    service, _, name = path.removeprefix("/").rpartition("/")
    return f"{service.rpartition('.')[2]}/{name}"
