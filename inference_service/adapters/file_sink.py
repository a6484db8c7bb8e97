"""A file that is being downloaded."""

import hashlib
import os
from pathlib import Path
from typing import Final

from inference_service.adapters.artifact import ArtifactFile

_READ_BYTES: Final = 1024 * 1024


class FileSink:
    """Knows the file's size and sha256 so far. One that was begun before is gone on with: its
    bytes are hashed first, so that in the end every byte of the file has been."""

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.fdopen(os.open(path, flags, 0o600), "r+b")
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0
        while data := self._file.read(_READ_BYTES):
            self._count(data)

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._count(data)

    def close(self) -> None:
        # No fsync: what a crash leaves behind is verified again before it is used.
        self._file.close()

    def matches(self, file: ArtifactFile) -> bool:
        return self.size_bytes == file.size_bytes and self._sha256.hexdigest() == file.sha256

    def _count(self, data: bytes) -> None:
        self._sha256.update(data)
        self.size_bytes += len(data)
