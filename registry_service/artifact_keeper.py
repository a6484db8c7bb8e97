"""Bytes in and out: staging, validation and the object store, in threads of their own."""

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

from adapter_format.artifact import WEIGHTS_FILE
from adapter_format.config_fields import CONFIG_FILE
from lorikeet.rpc.errors import OutOfRangeError
from protos import registry_pb2 as pb
from registry_service.artifacts.object_store import (
    ObjectMissingError,
    ObjectStore,
    ObjectStream,
)
from registry_service.artifacts.staging import UploadStaging
from registry_service.artifacts.storage_errors import artifact_corrupt, storage_unavailable
from registry_service.artifacts.validation import (
    AdapterFacts,
    refusal,
    validate_adapter,
)
from registry_service.operations.uploads import CommitPlan

T = TypeVar("T")

logger = logging.getLogger(__name__)

READ_CHUNK_BYTES = 256 * 1024


class ArtifactKeeper:
    """Owns the staging area and the object store; validations never delay chunks."""

    def __init__(
        self, staging: UploadStaging, store: ObjectStore, num_threads: int, max_rank: int
    ) -> None:
        self._staging = staging
        self._store = store
        self._max_rank = max_rank
        self._chunks = ThreadPoolExecutor(num_threads, "registry-chunks")
        self._commits = ThreadPoolExecutor(num_threads, "registry-commits")

    async def create(self, upload: str) -> None:
        await self._in(self._chunks, lambda: self._staging.create(upload))

    async def append(
        self, upload: str, file_name: str, offset: int, data: bytes, size: int
    ) -> None:
        await self._in(
            self._chunks, lambda: self._staging.append(upload, file_name, offset, data, size)
        )

    async def committed_bytes(self, upload: str, file_names: list[str]) -> dict[str, int]:
        return await self._in(
            self._chunks, lambda: self._staging.committed_bytes(upload, file_names)
        )

    async def remove(self, upload: str) -> None:
        await self._in(self._chunks, lambda: self._staging.remove(upload))

    async def validate_and_store(self, plan: CommitPlan) -> AdapterFacts:
        """Validates staged files and makes them durable objects, before any row names them."""
        return await self._in(self._commits, lambda: self._validate_and_store(plan))

    async def read(
        self, key: str, offset: int, size: int
    ) -> AsyncIterator[pb.ReadArtifactResponse]:
        """The bytes of an object from `offset`, in chunks with their checksums."""
        if not 0 <= offset <= size:
            raise OutOfRangeError(
                f"the file has {size} bytes: an offset of {offset} lies outside",
                reason="OFFSET_MISMATCH",
            )
        file = await self._in(self._chunks, lambda: self._open(key, offset))
        try:
            while offset < size:
                data = await self._in(self._chunks, lambda: file.read(READ_CHUNK_BYTES))
                if not data:
                    raise artifact_corrupt(key)
                yield pb.ReadArtifactResponse(offset=offset, data=data, crc32=zlib.crc32(data))
                offset += len(data)
        finally:
            file.close()

    def close(self) -> None:
        """Lets running work finish and starts nothing new."""
        self._chunks.shutdown(cancel_futures=True)
        self._commits.shutdown(cancel_futures=True)

    def _validate_and_store(self, plan: CommitPlan) -> AdapterFacts:
        assert plan.base is not None, "a committed upload is answered before"
        upload = plan.upload.id
        mismatches = self._staging.mismatches(upload, plan.declared)
        if mismatches:
            raise refusal(mismatches, "UPLOAD_INCOMPLETE")
        weights = self._staging.path(upload, WEIGHTS_FILE)
        with weights.open("rb") as file:
            facts = validate_adapter(
                self._staging.path(upload, CONFIG_FILE).read_bytes(),
                file,
                weights.stat().st_size,
                plan.base,
                self._max_rank,
            )
        for name, _, _ in plan.declared:
            self._store.put_file(f"{plan.storage_path}/{name}", self._staging.path(upload, name))
        return facts

    def _open(self, key: str, offset: int) -> ObjectStream:
        try:
            return self._store.open(key, offset)
        except ObjectMissingError as error:
            raise artifact_corrupt(key) from error

    async def _in(self, executor: Executor, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, work)
        except OSError as error:
            logger.exception("the storage failed")
            raise storage_unavailable("the registry's storage failed, it may be full") from error
