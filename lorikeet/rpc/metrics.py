"""Metrics of any of our gRPC servers, and the port they are read from."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from wsgiref.simple_server import WSGIServer

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from lorikeet.rpc.call_record import CallRecord
from lorikeet.rpc.server import check_binding

# From a cached answer to a long upload.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class RpcMetrics:
    """Calls by method and code, their time, how many run, and the reasons of those that failed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "lorikeet_rpc_seconds",
            "Time from a call's start to its status, by method and status code.",
            ("method", "code"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "lorikeet_rpc_in_flight", "Calls being served.", ("method",), registry=registry
        )
        self._failures = Counter(
            "lorikeet_rpc_failures",
            "Calls that failed, by the stable reason the caller was given.",
            ("method", "reason"),
            registry=registry,
        )

    def started(self, record: CallRecord) -> None:
        self._in_flight.labels(record.method).inc()

    def ended(self, record: CallRecord) -> None:
        self._in_flight.labels(record.method).dec()
        self._seconds.labels(record.method, record.code.name).observe(record.seconds)
        if record.code is not grpc.StatusCode.OK:
            self._failures.labels(record.method, record.reason or record.code.name).inc()


class MetricsListenError(RuntimeError):
    """Metrics cannot be served where they should be; the message says where and why."""


@dataclass(frozen=True)
class MetricsServer:
    """Answers `GET /metrics` from a thread of its own until closed."""

    address: str
    _server: WSGIServer
    _thread: Thread

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve_metrics(
    registry: CollectorRegistry,
    listen: str,
    *,
    certificate: Path | None = None,
    key: Path | None = None,
    insecure: bool = False,
) -> MetricsServer:
    """Serves over TLS when there is a certificate; without one only on loopback, or `insecure`.

    InsecureBindError, or MetricsListenError when the port is taken or the certificate is none.
    """
    if certificate is None:
        check_binding(listen, insecure=insecure)
    host, _, port = listen.rpartition(":")
    try:
        server, thread = start_http_server(
            int(port),
            host.strip("[]"),
            registry,
            certfile=str(certificate) if certificate else None,
            keyfile=str(key) if key else None,
            tls_min_version=ssl.TLSVersion.TLSv1_2,
        )
    except (OSError, ValueError) as error:  # ValueError: the port is none
        raise MetricsListenError(f"cannot serve metrics on {listen}: {error}") from error
    return MetricsServer(f"{host}:{server.server_port}", server, thread)
