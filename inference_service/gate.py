"""The gate every request passes: who calls, for which tenant, and which adapter it may use.

What the registry said is remembered until its change feed says that it may be otherwise, and only
as long as there is a lease on it. Without a lease nobody passes.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Final

from grpc import aio

from inference_service.access.callers import Callers
from inference_service.access.presented import Presented
from inference_service.access.resolutions import Resolutions
from inference_service.adapters.artifact import Profile, ResolvedAdapter
from inference_service.adapters.registry_client import registry_unavailable
from inference_service.adapters.registry_watch import RegistryWatch
from inference_service.identity import Caller, effective_tenant
from lorikeet.rpc.adapter_naming import AdapterReference, parse_adapter_reference
from lorikeet.rpc.errors import (
    FailedPreconditionError,
    LorikeetError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    permission_denied,
)
from lorikeet.rpc.logs import log_fields
from lorikeet.rpc.names import TenantName

logger = logging.getLogger(__name__)

_DENIAL_BEAT_SECONDS: Final = 0.025
_REFUSALS: Final = (
    UnauthenticatedError,
    PermissionDeniedError,
    NotFoundError,
    FailedPreconditionError,
)


@dataclass(frozen=True)
class Admitted:
    """A request that passed. `adapter` is None for the base model alone.

    `num_events` is what the registry's watch had counted when the first question was asked.
    """

    caller: Caller
    tenant: str
    adapter: ResolvedAdapter | None
    presented: Presented
    num_events: int

    @property
    def profile(self) -> Profile:
        return self.adapter.profile if self.adapter else Profile()

    @property
    def owns_adapter(self) -> bool:
        """Whether the adapter is the tenant's own, or the caller an administrator."""
        assert self.adapter is not None
        return self.adapter.owner == self.tenant or self.caller.is_administrator

    @property
    def version_name(self) -> str:
        return self.adapter.artifact.version_name if self.adapter else ""

    @property
    def alias(self) -> str:
        return self.adapter.alias if self.adapter else ""

    @property
    def digest(self) -> str:
        return self.adapter.artifact.digest if self.adapter else ""


class Gate:
    """Decides from what the registry said, and logs who was turned away."""

    def __init__(
        self, callers: Callers, resolutions: Resolutions, watch: RegistryWatch, base_model: str
    ) -> None:
        self._callers = callers
        self._resolutions = resolutions
        self._watch = watch
        self._base_model = base_model

    @property
    def lease_left(self) -> float:
        """For how many seconds requests still pass without news from the registry."""
        return self._watch.lease_left

    async def identify(self, context: aio.ServicerContext[Any, Any]) -> Caller:
        """The caller of an RPC; UNAUTHENTICATED without a valid token or certificate."""
        _, caller = await self._identify(context)
        return caller

    async def admit(
        self,
        context: aio.ServicerContext[Any, Any],
        *,
        tenant: str,
        adapter: str,
        request_id: str = "",
    ) -> Admitted:
        """Passes a request with these `tenant` and `adapter` fields, or says why not."""
        num_events = self._watch.num_events
        began = asyncio.get_running_loop().time()
        presented, caller = await self._identify(context)
        try:
            effective = effective_tenant(caller, tenant)
            resolved = await self._resolve(caller, effective, adapter)
            return Admitted(caller, effective, resolved, presented, num_events)
        except PermissionDeniedError as error:
            _log_denial(error, request_id=request_id, principal=caller.principal, tenant=tenant)
            await _until_the_beat(began)
            raise

    async def still_admits(self, admitted: Admitted) -> bool:
        """Whether the same caller would be admitted to that very version now.

        LorikeetError when that cannot be found out.
        """
        try:
            caller = await self._callers.identify(admitted.presented)
            if caller.principal != admitted.caller.principal:
                return False
            if not caller.may_speak_for(admitted.tenant):
                return False
            if not caller.may_use_adapters(admitted.tenant):
                return False
            if admitted.adapter is not None:
                await self._resolutions.resolve(admitted.version_name, admitted.tenant)
        except _REFUSALS:
            return False
        return True

    def check_owner(self, admitted: Admitted, permission: str) -> None:
        """For what slows other users of an adapter down: its owner may, and administrators."""
        if not admitted.owns_adapter:
            self.check_administrator(admitted, permission)

    def check_administrator(self, admitted: Admitted, permission: str) -> None:
        """For what is at the cost of every tenant."""
        if admitted.caller.is_administrator:
            return
        error = permission_denied(permission, admitted.version_name or "this server")
        _log_denial(error, principal=admitted.caller.principal, tenant=admitted.tenant)
        raise error

    async def resolve_again(self, name: str, tenant: str) -> ResolvedAdapter | None:
        """What `tenant` may use under a resource name now; None when it may not, or it is gone."""
        try:
            return await self._resolutions.resolve(name, tenant)
        except _REFUSALS:
            return None

    async def _identify(self, context: aio.ServicerContext[Any, Any]) -> tuple[Presented, Caller]:
        try:
            presented = Presented.of(context)
            if not self._watch.lease_left:
                raise registry_unavailable()
            return presented, await self._callers.identify(presented)
        except UnauthenticatedError as error:
            _log_denial(error, peer=context.peer())
            raise

    async def _resolve(self, caller: Caller, tenant: str, adapter: str) -> ResolvedAdapter | None:
        reference = self._reference(adapter, tenant)
        if not caller.may_use_adapters(tenant):
            resource = reference.adapter_name if reference else str(TenantName(tenant))
            raise permission_denied("adapters.use", resource)
        if reference is None:
            return None
        return await self._resolutions.resolve(reference.resource_name, tenant)

    def _reference(self, adapter: str, tenant: str) -> AdapterReference | None:
        if not adapter:
            return None
        return parse_adapter_reference(adapter, own_tenant=tenant, base_model=self._base_model)


async def _until_the_beat(began: float) -> None:
    """How long a denial takes must not tell whether there was something to deny."""
    elapsed = asyncio.get_running_loop().time() - began
    await asyncio.sleep(-elapsed % _DENIAL_BEAT_SECONDS)


def _log_denial(error: LorikeetError, **fields: str) -> None:
    logger.warning("denied", extra=log_fields(reason=error.reason, detail=error.metadata, **fields))
