"""Pagination: opaque page tokens that are worth something only for the listing they came from."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message

from registry_service.requests import invalid

Row = TypeVar("Row")
Answer = TypeVar("Answer", bound=Message)
Cursor = str | int

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
_NUM_TAG_BYTES = 16
_BATCH = 100
_MAX_PAGE_BYTES = 2 * 1024 * 1024


class PagedRequest(Protocol):
    """What every List request has."""

    @property
    def page_size(self) -> int: ...
    @property
    def page_token(self) -> str: ...


@dataclass(frozen=True)
class Page(Generic[Row]):
    rows: Sequence[Row]
    next_page_token: str


class PageTokens:
    """Signs and checks cursors; the scope binds a token to one listing and its filter."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def page(
        self,
        request: PagedRequest,
        scope: Sequence[object],
        fetch: Callable[[Any, int], Sequence[Row]],
        cursor_of: Callable[[Row], Cursor],
    ) -> Page[Row]:
        """One page of `fetch(after, limit)`; one row more is read to know whether more follow."""
        size = _page_size(request.page_size)
        cursor = self.decode(scope, request.page_token) if request.page_token else None
        rows = fetch(cursor, size + 1)
        if len(rows) <= size:
            return Page(rows, "")
        kept = rows[:size]
        return Page(kept, self.encode(scope, cursor_of(kept[-1])))

    def message_page(
        self,
        request: PagedRequest,
        scope: Sequence[object],
        fetch: Callable[[Any, int], Sequence[Row]],
        cursor_of: Callable[[Row], Cursor],
        message_of: Callable[[Row], Answer],
    ) -> Page[Answer]:
        """A page as messages, for rows that callers make large: it ends early when it is full."""
        left, budget = _page_size(request.page_size), _MAX_PAGE_BYTES
        cursor = self.decode(scope, request.page_token) if request.page_token else None
        messages: list[Answer] = []
        while left:
            rows = fetch(cursor, min(left, _BATCH) + 1)
            for row in rows[: min(left, _BATCH)]:
                message = message_of(row)
                budget -= message.ByteSize()
                if budget < 0 and cursor is not None and messages:
                    return Page(messages, self.encode(scope, cursor))
                messages.append(message)
                cursor = cursor_of(row)
            if len(rows) <= min(left, _BATCH):
                return Page(messages, "")
            left -= min(left, _BATCH)
        assert cursor is not None, "a page that is followed by another has rows"
        return Page(messages, self.encode(scope, cursor))

    def encode(self, scope: Sequence[object], cursor: Cursor) -> str:
        payload = json.dumps(cursor).encode()
        return base64.urlsafe_b64encode(self._tag(scope, payload) + payload).decode()

    def decode(self, scope: Sequence[object], token: str) -> Cursor:
        """The cursor of `token`; INVALID_ARGUMENT unless we made it for this very listing."""
        try:
            raw = base64.urlsafe_b64decode(token.encode("ascii"))
        except ValueError:
            raw = b""
        tag, payload = raw[:_NUM_TAG_BYTES], raw[_NUM_TAG_BYTES:]
        if not payload or not hmac.compare_digest(tag, self._tag(scope, payload)):
            raise invalid(
                "page_token",
                "was not made for this listing: repeat the request with the same parent and "
                "filter, or begin again without a token",
                "INVALID_PAGE_TOKEN",
            )
        cursor: Cursor = json.loads(payload)
        return cursor

    def _tag(self, scope: Sequence[object], payload: bytes) -> bytes:
        bound = json.dumps([str(part) for part in scope]).encode() + b"\x00" + payload
        return hmac.new(self._secret, bound, hashlib.sha256).digest()[:_NUM_TAG_BYTES]


def _page_size(requested: int) -> int:
    if requested < 0:
        raise invalid("page_size", "must not be negative")
    return min(requested or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
