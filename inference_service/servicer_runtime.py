"""The AdapterRuntime service: what is loaded, and having it loaded or unloaded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from grpc import aio

from inference_service.adapter_loads import AdapterLoads
from inference_service.adapters.artifact import ResolvedAdapter
from inference_service.adapters.store import AdapterStore
from inference_service.admission import Admission
from inference_service.engine.client import EngineClient, EngineRefusedError
from inference_service.engine_errors import translated_engine_errors
from inference_service.gate import Admitted, Gate
from inference_service.known_adapters import KnownAdapters
from inference_service.loaded_adapters import LoadedAdapters
from inference_service.prefetch import Prefetcher, PrefetchItem
from inference_service.request_info import request_info
from inference_service.running_requests import RunningRequests
from inference_service.serving_health import ServingHealth
from inference_service.tenant_limits import TenantLimits
from inference_service.warm.kept_adapters import KeptBy
from inference_service.warm.warm_adapters import WarmAdapters
from lorikeet.rpc.errors import (
    FailedPreconditionError,
    FieldViolation,
    InvalidArgumentError,
)
from protos import inference_pb2, inference_pb2_grpc

Context = aio.ServicerContext[Any, Any]

_MAX_PREFETCH: Final = 1000
# The engine hears of ended requests a step later than the front end.
_SETTLE_SECONDS: Final = 1.0
_SETTLE_PAUSE_SECONDS: Final = 0.02


class AdapterRuntimeServicer(inference_pb2_grpc.AdapterRuntimeServicer):
    """PrefetchAdapters, Pin, Unpin and UnloadAdapter, ListLoadedAdapters, ListRequests, Drain."""

    def __init__(
        self,
        gate: Gate,
        known_adapters: KnownAdapters,
        store: AdapterStore,
        engine: EngineClient,
        requests: RunningRequests,
        loads: AdapterLoads,
        admission: Admission,
        tenant_limits: TenantLimits,
        health: ServingHealth,
        warm: WarmAdapters,
    ) -> None:
        self._gate = gate
        self._known_adapters = known_adapters
        self._store = store
        self._engine = engine
        self._requests = requests
        self._loads = loads
        self._admission = admission
        self._tenant_limits = tenant_limits
        self._health = health
        self._warm = warm
        self._loaded = LoadedAdapters(gate, known_adapters, store, engine, loads, warm)
        self._prefetcher = Prefetcher(loads)

    async def PrefetchAdapters(  # noqa: N802
        self, request: inference_pb2.PrefetchAdaptersRequest, context: Context
    ) -> AsyncIterator[inference_pb2.PrefetchProgress]:
        _check_prefetch(request)
        admitted = await self._gate.admit(context, tenant=request.tenant, adapter="")
        limits = await self._tenant_limits.of(admitted.tenant)
        names = dict.fromkeys(request.adapters)
        items = [self._prefetch_item(name, request.tenant, context) for name in names]
        to_device = request.tier != inference_pb2.TIER_DISK
        with self._admission.prefetch(admitted.tenant, limits):
            async with aclosing(self._prefetcher.run(items, to_device=to_device)) as news:
                async for progress in news:
                    yield progress

    async def PinAdapter(  # noqa: N802
        self, request: inference_pb2.PinAdapterRequest, context: Context
    ) -> inference_pb2.LoadedAdapter:
        admitted = await self._admit_adapter(request.adapter, request.tenant, context)
        self._gate.check_administrator(admitted, "adapters.pin")
        assert admitted.adapter is not None
        residency = await self._warm.kept.pin(admitted.adapter)
        return self._loaded.one(admitted.version_name, admitted.digest, residency)

    async def UnpinAdapter(  # noqa: N802
        self, request: inference_pb2.UnpinAdapterRequest, context: Context
    ) -> inference_pb2.LoadedAdapter:
        admitted = await self._admit_adapter(request.adapter, request.tenant, context)
        self._gate.check_administrator(admitted, "adapters.pin")
        residency = await self._warm.kept.let_go(admitted.digest, KeptBy.PIN)
        return self._loaded.one(admitted.version_name, admitted.digest, residency)

    async def UnloadAdapter(  # noqa: N802
        self, request: inference_pb2.UnloadAdapterRequest, context: Context
    ) -> inference_pb2.UnloadAdapterResponse:
        admitted = await self._admit_adapter(request.adapter, request.tenant, context)
        self._gate.check_owner(admitted, "adapters.unload")
        assert admitted.adapter is not None
        self._warm.kept.check_free(admitted.adapter)
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
        sees_all = admitted.caller.is_administrator and not request.tenant
        adapters = await self._loaded.list(None if sees_all else admitted.tenant)
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

    async def Drain(  # noqa: N802
        self, request: inference_pb2.DrainRequest, context: Context
    ) -> inference_pb2.DrainResponse:
        admitted = await self._gate.admit(context, tenant="", adapter="")
        self._gate.check_administrator(admitted, "server.drain")
        self._health.set("draining", against=True)
        self._admission.close()
        await self._admission.wait_until_idle()
        return inference_pb2.DrainResponse()

    def _prefetch_item(self, name: str, tenant: str, context: Context) -> PrefetchItem:
        async def resolve() -> ResolvedAdapter:
            admitted = await self._admit_adapter(name, tenant, context)
            assert admitted.adapter is not None
            if admitted.owns_adapter:  # who can mend it has it tried at once
                self._loads.failures.forgive(admitted.version_name)
            return admitted.adapter

        return PrefetchItem(name, resolve)

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
