"""Artifacts, and readers of them that can be told to misbehave."""

import asyncio
import hashlib
import zlib
from collections.abc import AsyncGenerator, Callable, Mapping

from inference_service.adapters.artifact import Artifact
from lorikeet.rpc.digests import manifest_digest
from lorikeet.rpc.errors import UnavailableError
from protos import registry_pb2 as pb

CHUNK_BYTES = 1000
Misbehave = Callable[[int, pb.ReadArtifactResponse], pb.ReadArtifactResponse]
"""Takes the number of the chunk, over all reads, and the chunk; may change it or raise."""


def make_version(
    files: Mapping[str, bytes], name: str = "tenants/acme/adapters/math/versions/1"
) -> pb.AdapterVersion:
    listed = [
        pb.ArtifactFile(
            file_name=file_name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
        )
        for file_name, data in files.items()
    ]
    return pb.AdapterVersion(name=name, digest=manifest_digest(listed), files=listed)


def make_files(seed: int = 0, size: int = 5500) -> dict[str, bytes]:
    weights = hashlib.shake_256(str(seed).encode()).digest(size)
    return {"adapter_config.json": b"{}", "adapter_model.safetensors": weights}


class MemoryReader:
    """Serves artifacts from memory, in small chunks."""

    def __init__(self, misbehave: Misbehave | None = None, seconds: float = 0.0) -> None:
        self._files: dict[str, Mapping[str, bytes]] = {}
        self._misbehave = misbehave
        self._seconds = seconds
        self.num_chunks = 0
        self.offsets: list[tuple[str, int]] = []

    def add(self, files: Mapping[str, bytes], name: str = "") -> Artifact:
        version = make_version(files, name or "tenants/acme/adapters/math/versions/1")
        self._files[version.name] = files
        return Artifact.from_version(version)

    @property
    def num_reads(self) -> int:
        return len(self.offsets)

    async def read_artifact(
        self, version_name: str, file_name: str, *, offset: int, tenant: str
    ) -> AsyncGenerator[pb.ReadArtifactResponse, None]:
        self.offsets.append((file_name, offset))
        data = self._files[version_name][file_name]
        for start in range(offset, len(data), CHUNK_BYTES):
            await asyncio.sleep(self._seconds)
            part = data[start : start + CHUNK_BYTES]
            chunk = pb.ReadArtifactResponse(offset=start, data=part, crc32=zlib.crc32(part))
            self.num_chunks += 1
            yield self._misbehave(self.num_chunks, chunk) if self._misbehave else chunk


def breaks_at(*numbers: int) -> Misbehave:
    """The connection is lost at these chunks."""

    def misbehave(number: int, chunk: pb.ReadArtifactResponse) -> pb.ReadArtifactResponse:
        if number in numbers:
            raise UnavailableError("lost")
        return chunk

    return misbehave


def damages(*numbers: int, fix_crc: bool) -> Misbehave:
    """One bit of these chunks is flipped, before the crc was made or after."""

    def misbehave(number: int, chunk: pb.ReadArtifactResponse) -> pb.ReadArtifactResponse:
        if number in numbers:
            chunk.data = bytes([chunk.data[0] ^ 1]) + chunk.data[1:]
            if fix_crc:
                chunk.crc32 = zlib.crc32(chunk.data)
        return chunk

    return misbehave
