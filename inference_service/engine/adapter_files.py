"""The files of an adapter directory, read whole: what is checked is what is used."""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import numpy as np

from inference_service.engine.load_pace import Rest, no_rest
from inference_service.engine.request import DeclaredFile

_PIECE_BYTES = 512 << 10  # read and hashed in a third of a millisecond


class AdapterInvalidError(ValueError):
    """An adapter that cannot be applied whole; says which file, tensor or field."""


class AdapterCorruptError(ValueError):
    """A file that is not the one the registry declared."""


def read_file(
    path: Path,
    declared: Mapping[str, DeclaredFile] | None = None,
    *,
    max_bytes: int | None = None,
    rest: Rest = no_rest,
) -> memoryview:
    """All of a regular file. Where files are declared, only bytes with the declared sha256.

    Another process may write to a file at any time: a check of the file is worth nothing,
    only one of the bytes in hand is. They are the caller's alone, who may write to them.
    """
    if not declared:
        return _read(path, max_bytes, rest)[0]
    expected = declared.get(path.name)
    if expected is None:
        raise AdapterCorruptError(f"{path.name} is not among the adapter's files")
    try:
        data, sha256 = _read(path, expected.size_bytes, rest)
    except AdapterInvalidError as error:  # it is missing, replaced by something else, or longer
        raise AdapterCorruptError(str(error)) from error
    if sha256 != expected.sha256:
        raise AdapterCorruptError(f"{path.name} does not hold the bytes that were registered")
    if max_bytes is not None and len(data) > max_bytes:
        raise _too_long(path, len(data), max_bytes)
    return data


def declared_files(directory: Path) -> dict[str, DeclaredFile]:
    """What is there now, for callers who have no registry to ask, such as benchmarks."""
    contents = {path.name: path.read_bytes() for path in directory.iterdir()}
    return {
        name: DeclaredFile(len(data), hashlib.sha256(data).hexdigest())
        for name, data in contents.items()
    }


def _read(path: Path, max_bytes: int | None, rest: Rest) -> tuple[memoryview, str]:
    """The bytes and their sha256: each piece is hashed while the caches have it."""
    with _open(path) as (file, size):
        if max_bytes is not None and size > max_bytes:
            raise _too_long(path, size, max_bytes)
        data, sha256 = np.empty(size, np.uint8).data, hashlib.sha256()
        done = 0
        while done < size and (num_read := file.readinto(data[done : done + _PIECE_BYTES])):
            sha256.update(data[done : done + num_read])
            done += num_read
            rest()
        return data[:done], sha256.hexdigest()


@contextmanager
def _open(path: Path) -> Iterator[tuple[FileIO, int]]:
    """A regular file and its size; a pipe or a device could keep its reader for ever."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise AdapterInvalidError(f"{path.name} is not a regular file")
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            yield file, status.st_size
    except OSError as error:
        raise AdapterInvalidError(f"{path.name}: {error.strerror}") from error


def _too_long(path: Path, size: int, max_bytes: int) -> AdapterInvalidError:
    return AdapterInvalidError(f"{path.name} has {size} bytes: at most {max_bytes}")
