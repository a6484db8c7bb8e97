"""Makes versions: bytes are taken in, validated and stored, and only then named by a row."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from lorikeet.rpc.errors import AbortedError, UnavailableError
from protos import registry_pb2 as pb
from registry_service.artifact_keeper import ArtifactKeeper
from registry_service.artifacts.intake import Artifact
from registry_service.artifacts.keys import storage_path
from registry_service.artifacts.object_store import ObjectMissingError
from registry_service.artifacts.storage_errors import artifact_corrupt, storage_unavailable
from registry_service.call_origin import CallOrigin
from registry_service.calls import Call, CallRunner
from registry_service.models import VersionRow
from registry_service.operations import imports
from registry_service.operations.commits import Committed, Plan, commit_upload, plan_commit
from registry_service.operations.imports import import_version, plan_import
from registry_service.operations.publishing import PublishRequest, announce_blob

Made = TypeVar("Made")

# How long a commit waits for the collector to finish with the same bytes.
_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)


class Publisher:
    """Commits uploads and imports. Killed at any point it leaves a whole version or none."""

    def __init__(self, runner: CallRunner, keeper: ArtifactKeeper, max_artifact_bytes: int) -> None:
        self._runner = runner
        self._keeper = keeper
        self._max_artifact_bytes = max_artifact_bytes

    async def commit(self, request: pb.CommitUploadRequest, origin: CallOrigin) -> Committed:
        """Idempotent: whoever finds the upload committed gets the version it became."""
        plan = await self._runner.read(origin, plan_commit, request)
        if isinstance(plan, VersionRow):
            return Committed(plan)
        try:
            return await self._make(plan, commit_upload, request, origin)
        except ObjectMissingError as error:
            # Another process may just have committed it, and removed the pieces.
            plan = await self._runner.read(origin, plan_commit, request)
            if isinstance(plan, VersionRow):
                return Committed(plan)
            raise artifact_corrupt(str(error)) from error

    async def import_artifact(
        self, request: pb.ImportArtifactRequest, origin: CallOrigin
    ) -> VersionRow:
        """Idempotent by request id."""
        plan = await self._runner.read(origin, plan_import, request)
        if isinstance(plan, VersionRow):
            return plan
        prefix, limit = plan.prefix, self._max_artifact_bytes
        sources = await self._keeper.list_for_import(
            prefix, lambda listed: imports.sources_of(prefix, listed, limit)
        )
        made = Plan(plan.tenant, sources, plan.base)
        try:
            return await self._make(made, import_version, request, origin)
        except ObjectMissingError as error:
            raise AbortedError(
                f"{str(error).removeprefix(prefix)} was changed while it was imported: try again",
                reason="IMPORT_CHANGED",
            ) from error

    async def _make(
        self,
        plan: Plan,
        register: Callable[[Call, Any, Artifact], Made],
        request: PublishRequest,
        origin: CallOrigin,
    ) -> Made:
        with self._keeper.scratch() as directory:
            artifact = await self._keeper.take_in(plan.sources, directory, plan.base)
            await self._store(plan.tenant, directory, artifact, request, origin)

        def write(call: Call, request: PublishRequest) -> Made:
            return register(call, request, artifact)

        return await self._runner.write(origin, write, request)

    async def _store(
        self,
        tenant: str,
        directory: Path,
        artifact: Artifact,
        request: PublishRequest,
        origin: CallOrigin,
    ) -> None:
        is_import = isinstance(request, pb.ImportArtifactRequest)

        def announce(call: Call, request: PublishRequest) -> bool:
            return announce_blob(call, tenant, artifact, uncounted=is_import)

        for pause in (*_PAUSES, None):
            if await self._runner.write(origin, announce, request):
                break
            if pause is None:
                raise _being_removed()
            await asyncio.sleep(pause)
        await self._keeper.store(directory, artifact, storage_path(tenant, artifact.digest))


def _being_removed() -> UnavailableError:
    return storage_unavailable("the same bytes, which no version needed, are just being removed")
