"""A relay between two services, whose connections a test may cut or leave silent."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

_CHUNK = 64 * 1024


@dataclass(eq=False)
class _Connection:
    writers: tuple[StreamWriter, StreamWriter]
    is_silent: bool = False

    async def pump(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            while data := await reader.read(_CHUNK):
                if not self.is_silent:
                    writer.write(data)
                    await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()


class Relay:
    """Carries bytes to and from `target`."""

    def __init__(self, target: str) -> None:
        self._host, _, self._port = target.rpartition(":")
        self._connections: set[_Connection] = set()
        self._is_cut = False
        self.num_connections = 0

    def cut(self) -> None:
        """Ends every connection, and each new one as soon as it is made."""
        self._is_cut = True
        for connection in self._connections:
            for writer in connection.writers:
                writer.close()

    def mend(self) -> None:
        self._is_cut = False

    def silence(self) -> None:
        """The connections there are stay open and carry nothing more; new ones do."""
        for connection in self._connections:
            connection.is_silent = True

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self._is_cut:
            writer.close()
            return
        self.num_connections += 1
        there = await asyncio.open_connection(self._host, int(self._port))
        connection = _Connection((writer, there[1]))
        self._connections.add(connection)
        try:
            await asyncio.gather(
                connection.pump(reader, there[1]), connection.pump(there[0], writer)
            )
        finally:
            self._connections.discard(connection)


@asynccontextmanager
async def running_relay(target: str) -> AsyncIterator[tuple[Relay, str]]:
    """A relay, and the address at which it listens."""
    relay = Relay(target)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield relay, f"{host}:{port}"
    finally:
        relay.cut()
        server.close()
        await server.wait_closed()
