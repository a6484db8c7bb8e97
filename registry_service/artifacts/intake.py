"""From objects that clients may still change to a validated artifact on our own disk."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_format.artifact import WEIGHTS_FILE
from adapter_format.config_fields import CONFIG_FILE
from adapter_format.violation import Reason, Violation
from lorikeet.rpc.digests import manifest_digest
from protos import registry_pb2 as pb
from registry_service.artifacts.object_store import ObjectStore
from registry_service.artifacts.reading import ObjectReader
from registry_service.artifacts.validation import (
    AdapterFacts,
    BaseModelFacts,
    refusal,
    validate_adapter,
)

_READ_BYTES = 1024 * 1024
_MISMATCH = "the bytes do not have the declared sha256: abort and upload again"


@dataclass(frozen=True)
class Piece:
    """Part of a file, or all of it."""

    key: str
    size_bytes: int


@dataclass(frozen=True)
class SourceFile:
    """Where one file's bytes are. `sha256` is what they must have; None: whatever they have."""

    name: str
    pieces: tuple[Piece, ...]
    sha256: str | None = None


@dataclass(frozen=True)
class Artifact:
    """What was found: the files as version rows list them, and the adapter they make."""

    files: list[dict[str, Any]]
    digest: str
    facts: AdapterFacts

    @property
    def size_bytes(self) -> int:
        return sum(file["size_bytes"] for file in self.files)


def take_in(
    store: ObjectStore,
    sources: Sequence[SourceFile],
    directory: Path,
    base: BaseModelFacts,
    max_rank: int,
) -> Artifact:
    """Copies the files into `directory` and validates the copies.

    ObjectMissingError when a piece is gone or too short; typed errors for a refused artifact.
    """
    files = [_fetch(store, source, directory / source.name) for source in sources]
    mismatches = [
        Violation(source.name, Reason.FILE_SHA256_MISMATCH, _MISMATCH)
        for source, file in zip(sources, files, strict=True)
        if source.sha256 not in (None, file["sha256"])
    ]
    if mismatches:
        raise refusal(mismatches, "UPLOAD_INCOMPLETE")
    weights = directory / WEIGHTS_FILE
    with weights.open("rb") as file:
        config = (directory / CONFIG_FILE).read_bytes()
        facts = validate_adapter(config, file, weights.stat().st_size, base, max_rank)
    return Artifact(files, manifest_digest([pb.ArtifactFile(**file) for file in files]), facts)


def _fetch(store: ObjectStore, source: SourceFile, target: Path) -> dict[str, Any]:
    """Copies one file, and describes it as the manifest does."""
    digest, size = hashlib.sha256(), 0
    with target.open("xb") as file:
        for piece in source.pieces:
            with ObjectReader(store, piece.key, 0, piece.size_bytes) as reader:
                while data := reader.read(_READ_BYTES):
                    file.write(data)
                    digest.update(data)
            size += piece.size_bytes
    return {"file_name": source.name, "size_bytes": size, "sha256": digest.hexdigest()}
