"""Adapter directories on disk: `{root}/sha256-<hex>/`, whole and verified or not there at all.

A download under way is `{root}/.partial-sha256-<hex>/`. It outlives the process: the next one goes
on with it.

Plain blocking functions over one directory; who may call them when is the store's business.
"""

import fcntl
import hashlib
import os
import re
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inference_service.adapters.artifact import Artifact, ArtifactFile

_READ_BYTES: Final = 1024 * 1024
_PREFIX: Final = "sha256-"
_PARTIAL: Final = ".partial-"
_NAME: Final = re.compile(r"sha256-[0-9a-f]{64}")
_DOOMED: Final = ".doomed-"
MAX_PARTIAL_SECONDS: Final = 24 * 3600.0


class StoreLockedError(RuntimeError):
    """The adapter directory belongs to another process."""


@dataclass(frozen=True)
class FileMark:
    """What changes when a file is replaced or written to."""

    size_bytes: int
    modified_ns: int
    inode: int


@dataclass(frozen=True)
class Stored:
    """A directory found at start; nothing is known about its content yet."""

    digest: str
    size_bytes: int
    modified_at: float
    is_partial: bool


class AdapterDisk:
    """Names, checks, and removes the directories under one root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock: int | None = None

    def open(self) -> list[Stored]:
        """Creates the root, drops what nobody will go on with, lists the rest, oldest first.

        StoreLockedError when another process works in it: it would lose its downloads.
        """
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _locked(self._root / ".lock")
        found = []
        for path in self._root.iterdir():
            stored = _stored(path)
            if stored is not None:
                found.append(stored)
            elif path.name.startswith((_PARTIAL, _DOOMED)):
                shutil.rmtree(path, ignore_errors=True)
        return sorted(found, key=lambda stored: stored.modified_at)

    def close(self) -> None:
        """Lets another process have the directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def path_of(self, digest: str) -> Path:
        """`digest` was checked when it was received: it is hex, never a path."""
        return self._root / digest.replace("sha256:", _PREFIX, 1)

    def partial_of(self, digest: str) -> Path:
        return self._root / f"{_PARTIAL}{digest.replace('sha256:', _PREFIX, 1)}"

    def open_partial(self, artifact: Artifact) -> Path:
        """The directory to download into, with nothing in it but files of the artifact."""
        path = self.partial_of(artifact.digest)
        path.mkdir(mode=0o700, exist_ok=True)
        names = {file.file_name for file in artifact.files}
        for entry in path.iterdir():
            if entry.name not in names or entry.is_symlink() or not entry.is_file():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        return path

    def partial_size(self, digest: str) -> int:
        """Bytes of an unfinished download; 0 where there is none."""
        path = self.partial_of(digest)
        return _size_of(path) if path.is_dir() else 0

    def publish(self, partial: Path, digest: str) -> None:
        """Makes a verified directory the adapter's, in one step."""
        partial.rename(self.path_of(digest))

    def detach(self, path: Path) -> Path | None:
        """Takes a directory out of the way in one quick step; what to `erase` then, if anything."""
        doomed = self._root / f"{_DOOMED}{uuid.uuid4().hex}"
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


def _stored(path: Path) -> Stored | None:
    """What a directory holds; None for what is not to be kept, or not ours."""
    name = path.name.removeprefix(_PARTIAL)
    if not _NAME.fullmatch(name) or not path.is_dir():
        return None
    is_partial = name != path.name
    modified_at = max(entry.lstat().st_mtime for entry in (path, *path.iterdir()))
    if is_partial and modified_at < time.time() - MAX_PARTIAL_SECONDS:
        return None
    digest = name.replace(_PREFIX, "sha256:", 1)
    return Stored(digest, _size_of(path), modified_at, is_partial)


def _size_of(path: Path) -> int:
    return sum(file.lstat().st_size for file in path.iterdir())


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
