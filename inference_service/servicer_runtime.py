"""The AdapterRuntime service: what is loaded, and having it loaded or unloaded."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Final

from grpc import aio

from inference_service.adapters.store import AdapterStore
from inference_service.engine.client import EngineClient, EngineRefusedError
from inference_service.engine.request import AdapterResidency
from inference_service.engine_errors import translated_engine_errors
from inference_service.gate import Admitted, Gate
from inference_service.known_adapters import KnownAdapters
from inference_service.prefetch import Prefetcher, PrefetchItem
from inference_service.request_info import request_info
from inference_service.running_requests import RunningRequests
from lorikeet.rpc.errors import (
    FailedPreconditionError,
    FieldViolation,
    InvalidArgumentError,
)
from protos import inference_pb2, inference_pb2_grpc

Context = aio.ServicerContext[Any, Any]

_MAX_PREFETCH: Final = 1000
_MAX_RESOLVES_AT_ONCE: Final = 16
# The engine hears of ended requests a step later than the front end.
_SETTLE_SECONDS: Final = 1.0
_SETTLE_PAUSE_SECONDS: Final = 0.02
_TIERS: Final = {
    "device": inference_pb2.TIER_DEVICE,
    "host": inference_pb2.TIER_HOST,
    "disk": inference_pb2.TIER_DISK,
}


class AdapterRuntimeServicer(inference_pb2_grpc.AdapterRuntimeServicer):
    """PrefetchAdapters, Pin, Unpin and UnloadAdapter, ListLoadedAdapters, ListRequests."""

    def __init__(
        self,
        gate: Gate,
        known_adapters: KnownAdapters,
        store: AdapterStore,
        engine: EngineClient,
        requests: RunningRequests,
    ) -> None:
        self._gate = gate
        self._known_adapters = known_adapters
        self._store = store
        self._engine = engine
        self._requests = requests
        self._prefetcher = Prefetcher(store, engine)

    async def PrefetchAdapters(  # noqa: N802
        self, request: inference_pb2.PrefetchAdaptersRequest, context: Context
    ) -> AsyncIterator[inference_pb2.PrefetchProgress]:
        _check_prefetch(request)
        items = await self._resolve_all(request.adapters, request.tenant, context)
        to_device = request.tier != inference_pb2.TIER_DISK
        async with aclosing(self._prefetcher.run(items, to_device=to_device)) as news:
            async for progress in news:
                yield progress

    async def PinAdapter(  # noqa: N802
        self, request: inference_pb2.PinAdapterRequest, context: Context
    ) -> inference_pb2.LoadedAdapter:
        admitted = await self._admit_adapter(request.adapter, request.tenant, context)
        self._gate.check_administrator(admitted, "adapters.pin")
        assert admitted.adapter is not None
        artifact = admitted.adapter.artifact
        async with self._store.lease(artifact, admitted.tenant) as path:
            with translated_engine_errors():
                await self._engine.load_adapter(artifact.digest, path)
                residency = await self._engine.pin_adapter(artifact.digest)
        return self._loaded_adapter(admitted, residency)

    async def UnpinAdapter(  # noqa: N802
        self, request: inference_pb2.UnpinAdapterRequest, context: Context
    ) -> inference_pb2.LoadedAdapter:
        admitted = await self._admit_adapter(request.adapter, request.tenant, context)
        self._gate.check_administrator(admitted, "adapters.pin")
        residency: AdapterResidency | None = None
        with translated_engine_errors():
            try:
                residency = await self._engine.unpin_adapter(admitted.digest)
            except EngineRefusedError as error:
                if error.reason != "ADAPTER_UNKNOWN":  # not loaded, so not pinned either
                    raise
        return self._loaded_adapter(admitted, residency)

    async def UnloadAdapter(  # noqa: N802
        self, request: inference_pb2.UnloadAdapterRequest, context: Context
    ) -> inference_pb2.UnloadAdapterResponse:
        admitted = await self._admit_adapter(request.adapter, request.tenant, context)
        self._gate.check_owner(admitted, "adapters.unload")
        while True:
            if request.drain:
                await self._store.wait_until_unused(admitted.digest)
            try:
                return await self._unload(admitted, delete=request.delete_from_disk)
            except FailedPreconditionError:
                if not request.drain:
                    raise
                # Another request came between: wait for that one too.

    async def ListLoadedAdapters(  # noqa: N802
        self, request: inference_pb2.ListLoadedAdaptersRequest, context: Context
    ) -> inference_pb2.ListLoadedAdaptersResponse:
        admitted = await self._gate.admit(context, tenant=request.tenant, adapter="")
        sizes = self._store.sizes()
        with translated_engine_errors():
            stats = await self._engine.stats()
        resident = {adapter.digest: adapter for adapter in stats.adapters}
        if admitted.caller.is_administrator and not request.tenant:
            digests = sizes.keys() | resident.keys()
            names = [(self._known_adapters.name_of(digest), digest) for digest in digests]
        else:
            names = await self._names_of_tenant(admitted.tenant, sizes.keys() | resident.keys())
        adapters = [
            _loaded_adapter(version_name, digest, sizes.get(digest, 0), resident.get(digest))
            for version_name, digest in sorted(names)
        ]
        return inference_pb2.ListLoadedAdaptersResponse(adapters=adapters)

    async def ListRequests(  # noqa: N802
        self, request: inference_pb2.ListRequestsRequest, context: Context
    ) -> inference_pb2.ListRequestsResponse:
        admitted = await self._gate.admit(context, tenant=request.tenant, adapter="")
        sees_all = admitted.caller.is_administrator and not request.tenant
        records = self._requests.admitted(None if sees_all else admitted.tenant)
        return inference_pb2.ListRequestsResponse(
            requests=[request_info(record) for record in records]
        )

    async def _resolve_all(
        self, adapters: Sequence[str], tenant: str, context: Context
    ) -> list[PrefetchItem]:
        slots = asyncio.Semaphore(_MAX_RESOLVES_AT_ONCE)

        async def resolve(name: str) -> PrefetchItem:
            async with slots:
                admitted = await self._admit_adapter(name, tenant, context)
            assert admitted.adapter is not None
            return PrefetchItem(name, admitted.adapter)

        return await asyncio.gather(*(resolve(name) for name in dict.fromkeys(adapters)))

    def _loaded_adapter(
        self, admitted: Admitted, residency: AdapterResidency | None
    ) -> inference_pb2.LoadedAdapter:
        disk_bytes = self._store.sizes().get(admitted.digest, 0)
        return _loaded_adapter(admitted.version_name, admitted.digest, disk_bytes, residency)

    async def _admit_adapter(self, adapter: str, tenant: str, context: Context) -> Admitted:
        if not adapter:
            raise _invalid("adapter", "name an adapter")
        admitted = await self._gate.admit(context, tenant=tenant, adapter=adapter)
        assert admitted.adapter is not None
        self._known_adapters.add(admitted.adapter)
        return admitted

    async def _unload(
        self, admitted: Admitted, *, delete: bool
    ) -> inference_pb2.UnloadAdapterResponse:
        """One try; FAILED_PRECONDITION ADAPTER_IN_USE while requests use the adapter."""
        digest = admitted.digest
        freed_pages = await self._free_pages(admitted)
        if delete:
            await self._store.delete(digest)
        on_disk = digest in self._store.sizes()
        return inference_pb2.UnloadAdapterResponse(
            digest=digest,
            freed_pages=freed_pages,
            tier=inference_pb2.TIER_DISK if on_disk else inference_pb2.TIER_REMOTE,
        )

    async def _free_pages(self, admitted: Admitted) -> int:
        deadline = asyncio.get_running_loop().time() + _SETTLE_SECONDS
        while not self._store.num_leases(admitted.digest):
            try:
                with translated_engine_errors():
                    return await self._unload_once(admitted.digest)
            except FailedPreconditionError:
                if asyncio.get_running_loop().time() > deadline:
                    break
            await asyncio.sleep(_SETTLE_PAUSE_SECONDS)
        raise _in_use(admitted)

    async def _unload_once(self, digest: str) -> int:
        try:
            return await self._engine.unload_adapter(digest)
        except EngineRefusedError as error:
            if error.reason == "ADAPTER_UNKNOWN":
                return 0
            raise

    async def _names_of_tenant(self, tenant: str, digests: set[str]) -> list[tuple[str, str]]:
        """(version name, digest) of what is here and the tenant may still use."""
        known = [
            (version_name, digest)
            for version_name, digest in self._known_adapters.of_tenant(tenant).items()
            if digest in digests
        ]
        slots = asyncio.Semaphore(_MAX_RESOLVES_AT_ONCE)

        async def may_use(version_name: str) -> bool:
            async with slots:
                return await self._gate.resolve_again(version_name, tenant) is not None

        allowed = await asyncio.gather(*(may_use(version_name) for version_name, _ in known))
        return [name for name, is_allowed in zip(known, allowed, strict=True) if is_allowed]


def _loaded_adapter(
    version_name: str, digest: str, disk_bytes: int, resident: AdapterResidency | None
) -> inference_pb2.LoadedAdapter:
    tier = _TIERS[resident.tier] if resident else inference_pb2.TIER_DISK
    return inference_pb2.LoadedAdapter(
        adapter_version=version_name,
        digest=digest,
        tier=tier,
        disk_bytes=disk_bytes,
        device_bytes=resident.size_bytes if resident else 0,
        host_bytes=resident.host_bytes if resident else 0,
        pages=resident.pages if resident else 0,
        rank=resident.rank if resident else 0,
        pinned=resident.pinned if resident else False,
        running_requests=resident.running_requests if resident else 0,
    )


def _check_prefetch(request: inference_pb2.PrefetchAdaptersRequest) -> None:
    if not 0 < len(request.adapters) <= _MAX_PREFETCH:
        raise _invalid("adapters", f"name 1 to {_MAX_PREFETCH} adapters")
    tiers = (
        inference_pb2.TIER_UNSPECIFIED,
        inference_pb2.TIER_DISK,
        inference_pb2.TIER_DEVICE,
    )
    if request.tier not in tiers:
        raise _invalid("tier", "DISK or DEVICE")


def _in_use(admitted: Admitted) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"requests are using {admitted.version_name}",
        reason="ADAPTER_IN_USE",
        metadata={"version": admitted.version_name, "digest": admitted.digest},
    )


def _invalid(field: str, description: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{field}: {description}",
        reason="INVALID_REQUEST",
        violations=[FieldViolation(field, description)],
    )
