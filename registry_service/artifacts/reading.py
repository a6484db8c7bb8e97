"""Reading one object to its end, also when the connection to the store breaks on the way."""

import logging
from types import TracebackType
from typing import Self

from lorikeet.rpc.errors import UnavailableError
from registry_service.artifacts.object_store import ObjectMissingError, ObjectStore, ObjectStream

logger = logging.getLogger(__name__)


class ObjectReader:
    """The bytes [offset, size) of an object whose size is known.

    A broken connection is opened again where it broke, once without one more byte in between.
    ObjectMissingError when there is no object of that size.
    """

    def __init__(self, store: ObjectStore, key: str, offset: int, size: int) -> None:
        self._store = store
        self._key = key
        self._size = size
        self._stream: ObjectStream | None = None
        self.offset = offset

    def read(self, count: int) -> bytes:
        """The next `count` bytes, fewer at the end, none after it."""
        count = min(count, self._size - self.offset)
        if count == 0:
            return b""
        try:
            data = self._next(count)
        except UnavailableError as error:
            if self._stream is None:
                raise  # nothing broke: it was not opened, and the store has tried it again already
            logger.warning("%s broke at %d, reading on: %s", self._key, self.offset, error.message)
            self.close()
            data = self._next(count)
        self.offset += len(data)
        if self.offset == self._size and self._stream is not None and self._stream.read(1):
            raise ObjectMissingError(self._key)  # longer than the object we were told of
        return data

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _next(self, count: int) -> bytes:
        if self._stream is None:
            self._stream = self._store.open(self._key, self.offset)
        data = self._stream.read(count)
        if not data:
            raise ObjectMissingError(self._key)
        return data
