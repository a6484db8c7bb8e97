"""What a check found wrong, where, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Problem(StrEnum):
    OBJECT_MISSING = "OBJECT_MISSING"
    SIZE_DIFFERS = "SIZE_DIFFERS"
    BYTES_DIFFER = "BYTES_DIFFER"
    MANIFEST_DIFFERS = "MANIFEST_DIFFERS"
    BLOB_MISSING = "BLOB_MISSING"
    BLOB_NOT_STORED = "BLOB_NOT_STORED"
    REMOVAL_STUCK = "REMOVAL_STUCK"
    PIECES_GAP = "PIECES_GAP"
    PIECE_MISSING = "PIECE_MISSING"
    STRAY_OBJECT = "STRAY_OBJECT"


_RESTORE = (
    "restore the object from a backup of the store; or delete the version and push the same files "
    "again, which puts the objects back for every version that shares them"
)
_ADVICE = {
    Problem.OBJECT_MISSING: _RESTORE,
    Problem.SIZE_DIFFERS: _RESTORE,
    Problem.BYTES_DIFFER: _RESTORE,
    Problem.MANIFEST_DIFFERS: "the row was changed: restore the database from a backup",
    Problem.BLOB_MISSING: "do not run the registry on this database before a row is restored, "
    "or a push of the same files has made one: the collector does not know the bytes",
    Problem.BLOB_NOT_STORED: "push the same files again, which marks them as stored",
    Problem.REMOVAL_STUCK: "is the registry running? It goes on with the removal by itself",
    Problem.PIECES_GAP: "abort the upload and push again",
    Problem.PIECE_MISSING: "abort the upload and push again",
    Problem.STRAY_OBJECT: "no row refers to it: pieces of uploads are removed by the running "
    "registry; anything else may be deleted once no registry of another database uses the store",
}


@dataclass(frozen=True)
class Finding:
    problem: Problem
    resource: str
    detail: str

    @property
    def advice(self) -> str:
        return _ADVICE[self.problem]
