"""An adapter version as the registry described it: checked, immutable."""

import re
from dataclasses import dataclass, field
from typing import Final, Self

from google.protobuf import struct_pb2

from lorikeet.rpc.digests import manifest_digest
from lorikeet.rpc.errors import DataLossError
from lorikeet.rpc.names import VersionName
from protos import registry_pb2

ALLOWED_FILES: Final = frozenset({"adapter_config.json", "adapter_model.safetensors", "README.md"})
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ArtifactFile:
    """One file of an adapter: `sha256` is hex."""

    file_name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Artifact:
    """The bytes of one version. `version_name` says where to read them from."""

    version_name: str
    digest: str
    files: tuple[ArtifactFile, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @classmethod
    def from_version(cls, version: registry_pb2.AdapterVersion) -> Self:
        """DATA_LOSS when the registry's own record contradicts itself or names strange files."""
        files = tuple(
            ArtifactFile(file.file_name, file.size_bytes, file.sha256) for file in version.files
        )
        problem = _problem(version.digest, files)
        if not problem and manifest_digest(version.files) != version.digest:
            problem = "its files do not make its digest"
        if problem:
            raise DataLossError(
                f"the registry's record of {version.name} is damaged: {problem}",
                reason="ARTIFACT_CORRUPT",
                metadata={"version": version.name},
            )
        return cls(str(VersionName.parse(version.name, "version")), version.digest, files)


@dataclass(frozen=True)
class Profile:
    """How the adapter wants to be talked to; empty fields mean the base model's way."""

    chat_template: str = ""
    stop: tuple[str, ...] = ()
    default_sampling: struct_pb2.Struct = field(default_factory=struct_pb2.Struct)
    tool_call_parser: str = ""

    @classmethod
    def from_message(cls, message: registry_pb2.AdapterProfile) -> Self:
        return cls(
            message.chat_template,
            tuple(message.stop),
            message.default_sampling,
            message.tool_call_parser,
        )


@dataclass(frozen=True)
class ResolvedAdapter:
    """An adapter that `tenant` may use, as of when it was resolved.

    `alias` is the one that was followed to the version; empty for a version by its number.
    `revision` is how far the registry's change feed was when it said so.
    """

    tenant: str
    artifact: Artifact
    profile: Profile
    alias: str = ""
    revision: int = 0

    @property
    def owner(self) -> str:
        """The tenant that the adapter belongs to."""
        return VersionName.parse(self.artifact.version_name).tenant


def _problem(digest: str, files: tuple[ArtifactFile, ...]) -> str:
    names = [file.file_name for file in files]
    if not _DIGEST.fullmatch(digest):
        return "its digest is not a sha256"
    if not set(names) <= ALLOWED_FILES or len(set(names)) != len(names):
        return "it has file names that are not allowed"
    if not all(_SHA256.fullmatch(file.sha256) and file.size_bytes >= 0 for file in files):
        return "a file has no checksum"
    return ""
