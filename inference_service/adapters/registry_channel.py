"""The connection to the registry, opened anew when this service is given new TLS files."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from grpc import aio

from lorikeet.rpc.tls import ClientTlsFiles, TlsFilesError
from protos import registry_pb2_grpc

logger = logging.getLogger(__name__)

_OLD_CALLS_SECONDS: Final = 60.0  # for downloads that run on the connection before
_OPTIONS: Final = [
    # A connection that is dead, and does not say so, is given up within 2.5 s: half of what a
    # revocation may take.
    ("grpc.keepalive_time_ms", 1_000),
    ("grpc.keepalive_timeout_ms", 1_500),
    ("grpc.http2.ping_timeout_ms", 1_500),  # a minute by default, whatever keepalive_timeout says
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),  # also how long a connection attempt may take
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # With it, the window grows until a whole adapter is on its way before any of it is asked for,
    # and a download cannot be slowed down. A message, a megabyte, is let through in any case.
    ("grpc.http2.bdp_probe", 0),
]


@dataclass(frozen=True)
class Stubs:
    """The registry's services on one channel."""

    channel: aio.Channel
    registry: Any
    artifacts: Any
    access: Any


class RegistryChannel:
    """Certificates may live for an hour, this service for months. Use it from one event loop.

    TlsFilesError when the files cannot be used at first; later such files change nothing.
    """

    def __init__(
        self,
        address: str,
        tls: ClientTlsFiles | None,
        interceptors: Sequence[Any] = (),
    ) -> None:
        self._address = address
        self._interceptors = interceptors
        self._tls = tls
        self._stamp = tls.stamp() if tls else None
        self._stubs = self._open()
        self._replaced: dict[asyncio.Task[None], aio.Channel] = {}

    @property
    def stubs(self) -> Stubs:
        """To be asked for at each call."""
        if self._tls is not None and self._tls.stamp() != self._stamp:
            self._stamp = self._tls.stamp()
            self._renew()
        return self._stubs

    async def close(self) -> None:
        """Ends what runs, on connections that were replaced too."""
        channels = [self._stubs.channel, *self._replaced.values()]
        for task in self._replaced:
            task.cancel()
        await asyncio.gather(*(channel.close(None) for channel in channels))

    def _renew(self) -> None:
        try:
            renewed = self._open()
        except TlsFilesError as error:
            logger.error("the new TLS files for the registry are not used: %s", error)
            return
        logger.info("connecting to the registry with new TLS files")
        old, self._stubs = self._stubs.channel, renewed
        task = asyncio.create_task(_close_in_time(old))
        self._replaced[task] = old
        task.add_done_callback(self._replaced.pop)

    def _open(self) -> Stubs:
        if self._tls is None:
            channel = aio.insecure_channel(
                self._address, options=_OPTIONS, interceptors=self._interceptors
            )
        else:
            credentials = self._tls.credentials()
            channel = aio.secure_channel(
                self._address, credentials, options=_OPTIONS, interceptors=self._interceptors
            )
        make: Any = registry_pb2_grpc
        return Stubs(
            channel,
            registry=make.AdapterRegistryStub(channel),
            artifacts=make.ArtifactServiceStub(channel),
            access=make.AccessServiceStub(channel),
        )


async def _close_in_time(channel: aio.Channel) -> None:
    await channel.close(_OLD_CALLS_SECONDS)
