"""Clients that publish without end, and what they know when the registry is killed under them."""

import asyncio
import random
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from lorikeet.rpc.errors import CancelledByPeerError, UnavailableError
from protos import registry_pb2 as pb
from tests.registry.support import Client, declared, make_adapter

CHUNK_BYTES = 256 * 1024
LARGE_BYTES = 1024 * 1024
LOST = (UnavailableError, CancelledByPeerError)


@dataclass
class Upload:
    """An upload that may have been cut off; `phase` is what its client was doing last."""

    adapter: str
    files: Mapping[str, bytes]
    name: str = ""
    phase: str = "StartUpload"


@dataclass
class Uploader:
    """Publishes versions of one adapter, one after the other; every fifth is large."""

    adapter: str
    random: random.Random
    count: int = 0
    acknowledged: dict[int, str] = field(default_factory=dict)  # digest by version
    current: Upload | None = None

    async def run_until_lost(self, client: Client) -> None:
        try:
            while True:
                await self.publish(client)
        except LOST:
            return

    async def resume(self, client: Client, phases: "Counter[str]") -> None:
        """Finishes what was cut off, from where the registry says it stands."""
        upload = self.current
        if upload is None:
            return
        phases[upload.phase] += 1
        if upload.name:  # otherwise its start was never answered
            stands = await client("GetUpload", pb.GetUploadRequest(name=upload.name))
            offsets = {file.file.file_name: file.committed_bytes for file in stands.files}
            if any(offsets[file] < len(data) for file, data in upload.files.items()):
                await client("WriteArtifact", _chunks(upload, offsets))
            await self._commit(client, upload)
        self.current = None

    async def publish(self, client: Client) -> None:
        """One version, from StartUpload to CommitUpload."""
        self.count += 1
        rank = 2 if self.count % 5 else 256
        files = make_adapter(rank=rank, seed=self.random.getrandbits(32)).files()
        if rank > 2:
            files["README.md"] = self.random.randbytes(LARGE_BYTES)
        self.current = upload = Upload(self.adapter, files)
        request = pb.StartUploadRequest(adapter=self.adapter, files=declared(files))
        upload.name = (await client("StartUpload", request)).name
        upload.phase = "WriteArtifact"
        await client("WriteArtifact", _chunks(upload, dict.fromkeys(files, 0)))
        upload.phase = "CommitUpload"
        await self._commit(client, upload)
        self.current = None

    async def _commit(self, client: Client, upload: Upload) -> None:
        version = await client("CommitUpload", pb.CommitUploadRequest(name=upload.name))
        wanted = {file.file_name: file.sha256 for file in declared(upload.files)}
        assert {file.file_name: file.sha256 for file in version.files} == wanted
        self.acknowledged[version.version] = version.digest


async def _chunks(
    upload: Upload, offsets: Mapping[str, int]
) -> AsyncIterator[pb.WriteArtifactRequest]:
    """Small pieces of every file from its offset; only the first message names the upload."""
    name = upload.name
    for file_name, data in upload.files.items():
        size = max(len(data) // 8, 500) if len(data) < CHUNK_BYTES else CHUNK_BYTES
        for offset in range(offsets[file_name], len(data), size):
            part = data[offset : offset + size]
            yield pb.WriteArtifactRequest(
                upload=name, file_name=file_name, offset=offset, data=part, crc32=zlib.crc32(part)
            )
            name = ""
            await asyncio.sleep(0)
