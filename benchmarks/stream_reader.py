"""Many streaming calls of one method over one HTTP/2 connection, read as cheaply as Python can.

A gRPC client in Python spends as long on a message as the server does, and would be what is
measured. Here a loop does nothing but keep what the socket says and when; frames and messages are
taken apart after the last byte has come.
"""

import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded
from h2.settings import SettingCodes

_WINDOW_BYTES = 2**31 - 1  # the reader is never what the server waits for
_RECEIVE_BYTES = 1 << 20


@dataclass
class Stream:
    """The messages of one call and the monotonic time at which each was here, whole."""

    messages: list[tuple[float, bytes]] = field(default_factory=list)
    is_ended: bool = False
    _partial: bytearray = field(default_factory=bytearray)

    def add(self, arrived: float, data: bytes) -> None:
        self._partial += data
        while len(self._partial) >= 5:
            (length,) = struct.unpack(">I", self._partial[1:5])
            if len(self._partial) < 5 + length:
                return
            self.messages.append((arrived, bytes(self._partial[5 : 5 + length])))
            del self._partial[: 5 + length]


def read_streams(
    address: str, method: str, request: bytes, metadata: tuple[tuple[str, str], ...], count: int
) -> list[Stream]:
    """Starts `count` equal calls at once and reads all of them to their end."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        protocol = H2Connection(H2Configuration(client_side=True))
        protocol.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = _WINDOW_BYTES
        protocol.initiate_connection()
        protocol.increment_flow_control_window(_WINDOW_BYTES - 65535)
        headers = (
            *((":method", "POST"), (":scheme", "http"), (":path", method), (":authority", host)),
            *(("te", "trailers"), ("content-type", "application/grpc"), *metadata),
        )
        for stream_id in _stream_ids(count):
            protocol.send_headers(stream_id, headers)
            protocol.send_data(stream_id, struct.pack(">BI", 0, len(request)) + request, True)
        connection.sendall(protocol.data_to_send())
        pieces = list(_receive(connection, count))
        return _taken_apart(protocol, pieces, count)


def _stream_ids(count: int) -> range:
    return range(1, 2 * count, 2)


def _receive(connection: socket.socket, count: int) -> Iterator[tuple[float, bytes]]:
    """What came and when, until `count` streams have ended."""
    num_ended, offset, header = 0, 0, bytearray()
    while num_ended < count:
        data = connection.recv(_RECEIVE_BYTES)
        assert data, "the server closed the connection"
        yield time.monotonic(), data
        # Only as much of HTTP/2 as says where frames begin, and which of them ends a stream.
        position = 0
        while position < len(data):
            if offset:
                skipped = min(offset, len(data) - position)
                offset, position = offset - skipped, position + skipped
                continue
            taken = min(9 - len(header), len(data) - position)
            header += data[position : position + taken]
            position += taken
            if len(header) == 9:
                offset = int.from_bytes(header[:3], "big")
                num_ended += header[3] in (0, 1) and header[4] & 1
                header.clear()


def _taken_apart(
    protocol: H2Connection, pieces: list[tuple[float, bytes]], count: int
) -> list[Stream]:
    streams = {stream_id: Stream() for stream_id in _stream_ids(count)}
    for arrived, data in pieces:
        for event in protocol.receive_data(data):
            if isinstance(event, DataReceived):
                streams[event.stream_id].add(arrived, event.data)
            elif isinstance(event, StreamEnded):
                streams[event.stream_id].is_ended = True
    return list(streams.values())
