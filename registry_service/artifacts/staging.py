"""Files of unfinished uploads. The length of a file says how much of it has arrived."""

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from adapter_format.violation import Reason, Violation
from lorikeet.rpc.errors import FailedPreconditionError, OutOfRangeError


class UploadStaging:
    """One directory per upload, named by the service; callers hold the upload's lock to write."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def create(self, upload: str) -> None:
        (self._root / upload).mkdir(exist_ok=True)

    def path(self, upload: str, file_name: str) -> Path:
        return self._root / upload / file_name

    def committed_bytes(self, upload: str, file_names: Iterable[str]) -> dict[str, int]:
        """How many bytes of each file have arrived."""
        return {name: _size(self.path(upload, name)) for name in file_names}

    def append(self, upload: str, file_name: str, offset: int, data: bytes, size: int) -> None:
        """Appends a chunk; OUT_OF_RANGE when it does not begin where the file ends."""
        path = self.path(upload, file_name)
        arrived = _size(path)
        if offset != arrived:
            raise OutOfRangeError(
                f"{file_name}: the chunk begins at {offset}, but {arrived} bytes have arrived: "
                f"resume from {arrived}",
                reason="OFFSET_MISMATCH",
                metadata={"file_name": file_name, "expected_offset": str(arrived)},
            )
        if arrived + len(data) > size:
            raise OutOfRangeError(
                f"{file_name}: the chunk ends at {arrived + len(data)}, but {size} bytes were "
                "declared",
                reason="SIZE_EXCEEDED",
                metadata={"file_name": file_name, "declared_size": str(size)},
            )
        try:
            with path.open("ab") as file:
                file.write(data)
        except FileNotFoundError as error:
            raise FailedPreconditionError(
                f"uploads/{upload} was committed, aborted or has expired", reason="UPLOAD_CLOSED"
            ) from error

    def remove(self, upload: str) -> None:
        """Forgets the bytes of an upload; nothing happens when there are none."""
        shutil.rmtree(self._root / upload, ignore_errors=True)

    def remove_all_except(self, uploads: Iterable[str]) -> None:
        """Removes what uploads left behind that the database no longer knows."""
        kept = set(uploads)
        for directory in self._root.iterdir():
            if directory.name not in kept:
                self.remove(directory.name)

    def mismatches(self, upload: str, declared: Iterable[tuple[str, int, str]]) -> list[Violation]:
        """Files whose bytes are not the declared ones (name, size, sha256)."""
        violations = []
        for name, size, sha256 in declared:
            arrived = _size(self.path(upload, name))
            if arrived != size:
                description = f"{arrived} of {size} bytes have arrived: send the rest first"
                violations.append(Violation(name, Reason.FILE_INCOMPLETE, description))
            elif _sha256(self.path(upload, name)) != sha256:
                description = "the bytes do not have the declared sha256: abort and upload again"
                violations.append(Violation(name, Reason.FILE_SHA256_MISMATCH, description))
        return violations


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
