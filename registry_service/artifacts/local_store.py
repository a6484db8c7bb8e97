"""Objects as files under one directory."""

import contextlib
import errno
import os
import re
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from registry_service.artifacts.object_store import ObjectMissingError, StoredObject

_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_STAGED = "put-"


class LocalObjectStore:
    """Keys are made by the service, or checked by it when they lie in the import area.

    They are checked again all the same, since whatever gets past this class reaches the disk.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        # One process owns the root: nothing else prunes a directory that is about to be used.
        self._directories = threading.Lock()
        root.mkdir(parents=True, exist_ok=True)

    def remove_unfinished(self) -> None:
        """Removes what a process that was killed was writing; no other may be writing now."""
        for stale in self._root.glob(f"{_STAGED}*"):
            shutil.rmtree(stale, ignore_errors=True)

    def put_file(self, key: str, source: Path) -> None:
        with self._replacing(self._path(key)) as staged:
            _link_or_copy(source, staged)

    def put_bytes(self, key: str, data: bytes | bytearray) -> None:
        with self._replacing(self._path(key)) as staged:
            staged.write_bytes(data)

    def open(self, key: str, offset: int = 0) -> BinaryIO:
        """Never follows a link: what others may write below the root must not lead out of it."""
        try:
            descriptor = _open_beneath(self._root, _segments(key))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            raise ObjectMissingError(key) from error
        file = os.fdopen(descriptor, "rb")
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or offset > status.st_size:
            file.close()
            raise ObjectMissingError(key)
        file.seek(offset)
        return file

    def size(self, key: str) -> int | None:
        try:
            with self.open(key) as file:
                return os.fstat(file.fileno()).st_size
        except ObjectMissingError:
            return None

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        for directory, _, names in os.walk(self._path(prefix.rstrip("/"))):
            for name in sorted(names):
                path = Path(directory) / name
                with contextlib.suppress(FileNotFoundError):  # it went while we looked
                    status = path.lstat()
                    if stat.S_ISREG(status.st_mode):
                        modified = datetime.fromtimestamp(status.st_mtime, UTC)
                        key = path.relative_to(self._root).as_posix()
                        yield StoredObject(key, status.st_size, modified)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            path = self._path(key)
            with self._directories:
                path.unlink(missing_ok=True)
                self._prune(path.parent)

    def presigned_url(self, key: str, seconds: int) -> str | None:
        return None

    def close(self) -> None:
        pass

    @contextlib.contextmanager
    def _replacing(self, target: Path) -> Iterator[Path]:
        """A path to write to; its file is made durable and moved to `target`."""
        with tempfile.TemporaryDirectory(dir=self._root, prefix=_STAGED) as directory:
            staged = Path(directory) / target.name
            yield staged
            _sync(staged)
            with self._directories:
                _make_directories(target.parent)
                staged.replace(target)
            _sync(target.parent)

    def _path(self, key: str) -> Path:
        return self._root.joinpath(*_segments(key))

    def _prune(self, directory: Path) -> None:
        """Removes directories that have become empty."""
        while directory != self._root:
            try:
                directory.rmdir()
            except OSError:
                return
            directory = directory.parent


def _segments(key: str) -> list[str]:
    segments = key.split("/")
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise ValueError(f"{key!r} is not an object key")
    return segments


def _open_beneath(root: Path, segments: list[str]) -> int:
    """Opens a file by its path below `root`, one directory after the other, without links."""
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for segment in segments[:-1]:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            below = os.open(segment, flags, dir_fd=directory)
            os.close(directory)
            directory = below
        # A pipe must not block us: it is refused once it is open.
        return os.open(segments[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    finally:
        os.close(directory)


def _make_directories(directory: Path) -> None:
    """Creates `directory`; each new entry is made durable in its parent."""
    if directory.is_dir():
        return
    _make_directories(directory.parent)
    directory.mkdir(exist_ok=True)
    _sync(directory.parent)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP):
            raise
        shutil.copyfile(source, target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
