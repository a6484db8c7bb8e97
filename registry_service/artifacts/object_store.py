"""Where the bytes of versions live for good."""

import errno
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class ObjectMissingError(LookupError):
    """A version's bytes are not where they must be."""


class LocalObjectStore:
    """Objects as files under one directory: whole and durable, or absent.

    Keys are made by the service ("tenants/a/sha256/<hex>/file"), never by clients; they are checked
    all the same, since whatever gets past this class writes to the disk.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def put_file(self, key: str, source: Path) -> None:
        """Stores the bytes of `source`, which must not change afterwards; replaces atomically."""
        target = self._path(key)
        self._make_directories(target.parent)
        with tempfile.TemporaryDirectory(dir=self._root, prefix="put-") as directory:
            staged = Path(directory) / target.name
            _link_or_copy(source, staged)
            _sync(staged)
            staged.replace(target)
        _sync(target.parent)

    def open(self, key: str) -> BinaryIO:
        """The object's bytes; ObjectMissingError when there is none."""
        try:
            return self._path(key).open("rb")
        except FileNotFoundError as error:
            raise ObjectMissingError(key) from error

    def _path(self, key: str) -> Path:
        segments = key.split("/")
        if not all(_SEGMENT.fullmatch(segment) for segment in segments):
            raise ValueError(f"{key!r} is not an object key")
        return self._root.joinpath(*segments)

    def _make_directories(self, directory: Path) -> None:
        """Creates `directory`; each new entry is made durable in its parent."""
        if directory.is_dir():
            return
        self._make_directories(directory.parent)
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
