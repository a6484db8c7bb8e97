"""Where bytes live: the operations that every object store has."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol


class ObjectMissingError(LookupError):
    """There is no such object, or it ends before the offset that was asked for."""


@dataclass(frozen=True)
class StoredObject:
    """What a listing says about one object."""

    key: str
    size_bytes: int
    modified: datetime


class ObjectStream(Protocol):
    """The bytes of an object, read once from front to back."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, fewer only at the end."""

    def close(self) -> None: ...


class ObjectStore(Protocol):
    """Objects by key: whole and durable, or absent.

    Methods block and may be called from several threads. Each raises UnavailableError
    STORAGE_UNAVAILABLE within a bounded time when the store does not answer.
    """

    def put_file(self, key: str, source: Path) -> None:
        """Stores the bytes of `source`, which must not change afterwards; replaces atomically."""

    def put_bytes(self, key: str, data: bytes | bytearray) -> None:
        """Stores `data`; replaces atomically."""

    def open(self, key: str, offset: int = 0) -> ObjectStream:
        """The object's bytes from `offset`; ObjectMissingError when there is none."""

    def size(self, key: str) -> int | None:
        """Bytes of an object; None when there is none."""

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        """Every object whose key begins with `prefix`, which ends in "/"."""

    def delete(self, keys: Iterable[str]) -> None:
        """Removes objects; those that are not there do not matter."""

    def presigned_url(self, key: str, seconds: int) -> str | None:
        """A URL that reads the object for that long; None where there is no such thing."""

    def close(self) -> None:
        """Gives back connections."""
