"""Adapter directories on disk: `{root}/sha256-<hex>/`, whole and verified or not there at all.

Plain blocking functions over one directory; who may call them when is the store's business.
"""

import fcntl
import hashlib
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inference_service.adapters.artifact import Artifact, ArtifactFile

_READ_BYTES: Final = 1024 * 1024
_PARTIAL: Final = ".partial-"
_PREFIX: Final = "sha256-"


class StoreLockedError(RuntimeError):
    """The adapter directory belongs to another process."""


@dataclass(frozen=True)
class FileMark:
    """What changes when a file is replaced or written to."""

    size_bytes: int
    modified_ns: int
    inode: int


@dataclass(frozen=True)
class StoredAdapter:
    """A directory found at start; nothing is known about its content yet."""

    digest: str
    size_bytes: int
    modified_ns: int


class AdapterDisk:
    """Names, checks, and removes the directories under one root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock: int | None = None

    def open(self) -> list[StoredAdapter]:
        """Creates the root, drops what an earlier process left unfinished, lists the rest.

        StoreLockedError when another process works in it: it would lose its downloads.
        """
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _locked(self._root / ".lock")
        found = []
        for path in self._root.iterdir():
            if path.name.startswith(_PARTIAL):
                shutil.rmtree(path, ignore_errors=True)
            elif path.name.startswith(_PREFIX) and path.is_dir():
                size_bytes = sum(file.stat().st_size for file in path.iterdir())
                digest = path.name.replace(_PREFIX, "sha256:", 1)
                found.append(StoredAdapter(digest, size_bytes, path.stat().st_mtime_ns))
        return sorted(found, key=lambda stored: stored.modified_ns)

    def close(self) -> None:
        """Lets another process have the directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def path_of(self, digest: str) -> Path:
        """`digest` was checked when it was received: it is hex, never a path."""
        return self._root / digest.replace("sha256:", _PREFIX, 1)

    def new_partial(self) -> Path:
        """A fresh directory to download into."""
        path = self._root / f"{_PARTIAL}{uuid.uuid4().hex}"
        path.mkdir(mode=0o700)
        return path

    def publish(self, partial: Path, digest: str) -> None:
        """Makes a verified directory the adapter's, in one step."""
        partial.rename(self.path_of(digest))

    def detach(self, path: Path) -> Path | None:
        """Takes a directory out of the way in one quick step; what to `erase` then, if anything."""
        doomed = self._root / f"{_PARTIAL}{uuid.uuid4().hex}"
        try:
            path.rename(doomed)
        except FileNotFoundError:
            return None
        return doomed

    def erase(self, doomed: Path) -> None:
        """Removes what was detached."""
        shutil.rmtree(doomed, ignore_errors=True)

    def marks(self, artifact: Artifact) -> tuple[FileMark, ...] | None:
        """The marks of an adapter's files; None when one is missing."""
        directory = self.path_of(artifact.digest)
        try:
            stats = [(directory / file.file_name).stat() for file in artifact.files]
        except OSError:
            return None
        return tuple(FileMark(stat.st_size, stat.st_mtime_ns, stat.st_ino) for stat in stats)

    def is_intact(self, artifact: Artifact) -> bool:
        """Whether exactly the artifact's files are there, each with its size and sha256."""
        directory = self.path_of(artifact.digest)
        try:
            names = {path.name for path in directory.iterdir()}
            return names == {file.file_name for file in artifact.files} and all(
                _matches(directory / file.file_name, file) for file in artifact.files
            )
        except OSError:
            return False


class FileSink:
    """A file being written; knows its size and sha256 without reading it again."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._sha256.update(data)
        self.size_bytes += len(data)

    def close(self) -> None:
        # No fsync: what a crash leaves behind is verified again before it is used.
        self._file.close()

    def matches(self, file: ArtifactFile) -> bool:
        return self.size_bytes == file.size_bytes and self._sha256.hexdigest() == file.sha256


def _locked(path: Path) -> int:
    """A lock that ends with this process, however that ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StoreLockedError(f"another process uses {path.parent}") from error
    return descriptor


def _matches(path: Path, file: ArtifactFile) -> bool:
    if path.is_symlink() or path.stat().st_size != file.size_bytes:
        return False
    sha256 = hashlib.sha256()
    with path.open("rb") as opened:
        while data := opened.read(_READ_BYTES):
            sha256.update(data)
    return sha256.hexdigest() == file.sha256
