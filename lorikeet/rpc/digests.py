"""Digests that the registry computes and the inference service checks: one definition for both."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

# Fields of config.json that say who wrote the file, not what the model is.
_VOLATILE_CONFIG_FIELDS = frozenset(
    {"_name_or_path", "transformers_version", "dtype", "torch_dtype"}
)


class FileRecord(Protocol):
    """The manifest's view of a file; protos.registry_pb2.ArtifactFile is one."""

    file_name: str
    size_bytes: int
    sha256: str


def manifest_digest(files: Iterable[FileRecord]) -> str:
    """ "sha256:<hex>" of the canonical list of (name, size, sha256), sorted by name."""
    manifest = sorted((file.file_name, file.size_bytes, file.sha256) for file in files)
    return _digest(json.dumps(manifest, separators=(",", ":")))


def config_digest(config: Mapping[str, Any]) -> str:
    """ "sha256:<hex>" of a model config, without the fields that do not change the model."""
    kept = {key: value for key, value in config.items() if key not in _VOLATILE_CONFIG_FIELDS}
    return _digest(json.dumps(kept, sort_keys=True, separators=(",", ":")))


def _digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
