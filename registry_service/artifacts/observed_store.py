"""An object store whose operations are measured."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from registry_service.artifacts.object_store import ObjectStore, ObjectStream, StoredObject
from registry_service.metrics import ObjectStoreMetrics


class ObservedStore:
    """Does what `store` does, and counts it."""

    def __init__(self, store: ObjectStore, metrics: ObjectStoreMetrics) -> None:
        self._store = store
        self._metrics = metrics

    def put_file(self, key: str, source: Path) -> None:
        with self._metrics.operation("put"):
            self._store.put_file(key, source)
        self._metrics.moved("put", source.stat().st_size)

    def put_bytes(self, key: str, data: bytes | bytearray) -> None:
        with self._metrics.operation("put"):
            self._store.put_bytes(key, data)
        self._metrics.moved("put", len(data))

    def open(self, key: str, offset: int = 0) -> ObjectStream:
        with self._metrics.operation("open"):
            return _ObservedStream(self._store.open(key, offset), self._metrics)

    def size(self, key: str) -> int | None:
        with self._metrics.operation("size"):
            return self._store.size(key)

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        """Not timed: how long a listing takes is up to whoever reads it."""
        return self._store.entries(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        with self._metrics.operation("delete"):
            self._store.delete(keys)

    def presigned_url(self, key: str, seconds: int) -> str | None:
        return self._store.presigned_url(key, seconds)

    def close(self) -> None:
        self._store.close()


class _ObservedStream:
    def __init__(self, stream: ObjectStream, metrics: ObjectStoreMetrics) -> None:
        self._stream = stream
        self._metrics = metrics

    def read(self, size: int, /) -> bytes:
        with self._metrics.operation("read"):
            data = self._stream.read(size)
        self._metrics.moved("read", len(data))
        return data

    def close(self) -> None:
        self._stream.close()
