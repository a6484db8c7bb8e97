"""Lifecycle of a gRPC server: safe binding, health, reflection, a ready file, a graceful stop."""

import asyncio
import contextlib
import ipaddress
import json
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from grpc import aio
from grpc_health.v1 import _async as aio_health
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from lorikeet.rpc.interceptor import ErrorInterceptor
from lorikeet.rpc.observation import Observer
from lorikeet.rpc.tls import ServerTlsFiles, server_credentials

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # Without these each stream may make the process hold megabytes that nobody has asked for yet.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 512 * 1024),
    ("grpc.so_reuseport", 0),  # two servers on one port must fail, not share it
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.http2.max_ping_strikes", 0),
]


class InsecureBindError(ValueError):
    """Plaintext on an address that others can reach."""


def is_loopback(address: str) -> bool:
    """Whether bytes to and from host:port stay on this machine."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_binding(address: str, *, insecure: bool) -> None:
    """Refuses plaintext outside loopback unless the operator said `--insecure`."""
    if not insecure and not is_loopback(address):
        raise InsecureBindError(
            f"refusing to listen on {address} without TLS: give --tls-cert and --tls-key, "
            "bind to loopback, or pass --insecure"
        )


class GrpcServer:
    """A grpc.aio server with health and reflection; `health` is set by the service that owns it.

    With `tls` it speaks nothing else. TlsFilesError or InsecureBindError when it must not start.
    `observers` are told of every call; those beyond `max_concurrent_calls` are refused before
    anybody hears of them, by gRPC itself: RESOURCE_EXHAUSTED.
    """

    def __init__(
        self,
        address: str,
        *,
        insecure: bool = False,
        tls: ServerTlsFiles | None = None,
        observers: Sequence[Observer] = (),
        max_concurrent_calls: int | None = None,
    ) -> None:
        if tls is None:
            check_binding(address, insecure=insecure)
        self._address = address
        self._credentials = server_credentials(tls) if tls else None
        self._health = aio_health.HealthServicer()
        self.server = aio.server(
            interceptors=[ErrorInterceptor(observers)],
            options=_OPTIONS,
            maximum_concurrent_rpcs=max_concurrent_calls,
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)

    async def start(self, service_names: Sequence[str]) -> str:
        """Binds and starts; returns the address with the real port."""
        names = [*service_names, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, self.server)
        port = self._bind()
        await self.server.start()
        self._service_names = ["", *service_names]
        return f"{self._address.rpartition(':')[0]}:{port}"

    def _bind(self) -> int:
        if self._credentials is None:
            return self.server.add_insecure_port(self._address)
        return self.server.add_secure_port(self._address, self._credentials)

    async def set_serving(self, serving: bool) -> None:
        """Publishes one health for the whole process."""
        statuses = health_pb2.HealthCheckResponse
        status = statuses.SERVING if serving else statuses.NOT_SERVING
        for name in self._service_names:
            await self._health.set(name, status)

    async def stop(self, grace: float) -> None:
        """NOT_SERVING, then `grace` seconds for running calls; what is left gets UNAVAILABLE."""
        await self._health.enter_graceful_shutdown()
        await self.server.stop(grace)


async def run_until_signal(
    stop: Callable[[], Awaitable[None]], *, stop_with_stdin: bool = False
) -> None:
    """Waits for SIGTERM or SIGINT, then runs `stop`; with `stop_with_stdin` also for its end.

    Any signal after the first cancels what `stop` waits for: it then closes things at once.
    """
    loop = asyncio.get_running_loop()
    called = asyncio.Event()
    _on_signals(loop, called.set)
    if stop_with_stdin:
        loop.add_reader(sys.stdin, _read_stdin, loop, called)
    await called.wait()
    stopping = asyncio.ensure_future(stop())
    _on_signals(loop, stopping.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await stopping


def _on_signals(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, call)


def _read_stdin(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        loop.remove_reader(sys.stdin)
        ended.set()


def write_ready_file(path: Path | None, address: str) -> None:
    """Tells whoever started this process where it listens; the file appears whole or not at all."""
    if path is None:
        return
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        json.dump({"address": address, "pid": os.getpid()}, file)
    Path(file.name).replace(path)
