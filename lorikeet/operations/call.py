"""Calls and operations: the part of the SDK that is the same with and without `await`.

An operation is a generator that yields the calls it wants made and is sent their responses; a
failed call is thrown into it as a LorikeetError. `lorikeet.transport` holds the two drivers.

    operation                driver (sync or aio)
    yield call  ───────────▶ makes the RPC
    response    ◀─────────── sends the response
    return R    ───────────▶ returns R to the caller
"""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

Response = TypeVar("Response", bound=Message)
Result = TypeVar("Result")

Operation = Generator["Call[Any] | Drain[Any] | Pause", Any, Result]

DEFAULT_TIMEOUT = 30.0
_PAGE_SIZE = 500


@dataclass(frozen=True)
class Call(Generic[Response]):
    """One RPC. `request` is a message, or makes the messages of a client stream anew.

    `timeout` is in seconds; None waits for as long as the server is there (keepalive ends the
    call when it is not).
    """

    path: str
    request: Message | Callable[[], Iterable[Message]]
    response_type: type[Response]
    timeout: float | None = DEFAULT_TIMEOUT


@dataclass(frozen=True)
class StreamCall(Generic[Response]):
    """One RPC that is answered by a stream; it has no deadline unless one is asked for."""

    path: str
    request: Message
    response_type: type[Response]
    timeout: float | None = None


@dataclass(frozen=True)
class Drain(Generic[Response]):
    """A streamed answer, each message of which is given to `take` as it comes."""

    call: StreamCall[Response]
    take: Callable[[Response], None]


@dataclass(frozen=True)
class Pause:
    """What an operation yields to wait before it goes on."""

    seconds: float


def send(call: Call[Response]) -> Operation[Response]:
    """The operation that makes one call and returns its response."""
    response: Response = yield call
    return response


def unary(
    path: str,
    request: Message,
    response_type: type[Response],
    timeout: float | None = DEFAULT_TIMEOUT,
) -> Operation[Response]:
    """One request, one response; `path` is package.Service/Method."""
    return send(Call(f"/{path}", request, response_type, timeout))


def pages(path: str, request: Any, response_type: type[Any], field: str) -> Operation[list[Any]]:
    """Follows page tokens to the end; `field` is the repeated field of the response to collect."""
    items: list[Any] = []
    request.page_size = _PAGE_SIZE
    while True:
        response = yield from unary(path, request, response_type)
        items.extend(getattr(response, field))
        if not response.next_page_token:
            return items
        request.page_token = response.next_page_token
