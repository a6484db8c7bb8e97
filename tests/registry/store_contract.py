"""What every object store does, checked the same way on files and on S3 servers."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry_service.artifacts.object_store import ObjectMissingError, ObjectStore

MIB = 1024 * 1024


def check_store(store: ObjectStore, directory: Path) -> None:
    """Runs every operation; the store may hold other objects, and is left as it was."""
    _check_bytes(store)
    _check_files(store, directory)
    _check_absence(store)
    _check_listing(store)


def read_all(store: ObjectStore, key: str, offset: int = 0) -> bytes:
    stream = store.open(key, offset)
    data = b"".join(iter(lambda: stream.read(MIB), b""))
    stream.close()
    return data


def _check_bytes(store: ObjectStore) -> None:
    key, large = "tenants/a/sha256/00/file.bin", bytes(range(256)) * 40_000
    for data in (b"", b"first", bytearray(b"second"), large):
        store.put_bytes(key, data)
        assert (read_all(store, key), store.size(key)) == (bytes(data), len(data))
    assert read_all(store, key, 7) == large[7:]
    stream = store.open(key, len(large) - 3)
    assert (stream.read(2), stream.read(5), stream.read(1)) == (large[-3:-1], large[-1:], b"")
    stream.close()
    store.delete([key])


def _check_files(store: ObjectStore, directory: Path) -> None:
    source = directory / "source"
    source.write_bytes(b"x" * 3 * MIB)
    store.put_file("tenants/a/file", source)
    source.unlink()
    assert read_all(store, "tenants/a/file") == b"x" * 3 * MIB
    store.delete(["tenants/a/file"])


def _check_absence(store: ObjectStore) -> None:
    store.put_bytes("tenants/a/short", b"12345")
    for key, offset in (("tenants/a/absent", 0), ("tenants/absent/x", 0), ("tenants/a/short", 6)):
        with pytest.raises(ObjectMissingError):
            store.open(key, offset)
    assert store.size("tenants/a/absent") is None
    store.delete(["tenants/a/absent", "tenants/a/short", "tenants/a/short"])
    assert store.size("tenants/a/short") is None


def _check_listing(store: ObjectStore) -> None:
    keys = [f"imports/a/x/{name}" for name in ("b", "c/d", "e")]
    for key in [*keys, "imports/a/xy", "imports/ab/x/b"]:
        store.put_bytes(key, key.encode())
    entries = list(store.entries("imports/a/x/"))
    assert sorted((e.key, e.size_bytes) for e in entries) == [(key, len(key)) for key in keys]
    now = datetime.now(UTC)
    assert all(abs(now - entry.modified) < timedelta(minutes=1) for entry in entries)
    assert list(store.entries("imports/absent/")) == []
    store.delete([*keys, "imports/a/xy", "imports/ab/x/b"])
    assert list(store.entries("imports/a/")) == []
