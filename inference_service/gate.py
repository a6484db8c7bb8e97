"""The gate every request passes: who calls, for which tenant, and which adapter it may use.

The registry is asked on every request, so a revoked allow-list entry or key counts from the next
one on. While it does not answer, nobody passes.
"""

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from grpc import aio

from inference_service.adapters.artifact import Profile, ResolvedAdapter
from inference_service.adapters.registry_client import RegistryClient
from inference_service.identity import Caller, effective_tenant
from lorikeet.rpc.adapter_naming import AdapterReference, parse_adapter_reference
from lorikeet.rpc.credentials import bearer_token, invalid_credential, peer_subjects
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

_MAX_SUBJECTS: Final = 8  # of a certificate: each is a question to the registry


@dataclass(frozen=True)
class ServedModel:
    """The base model of this server, as registered."""

    base_model: str
    revision: str


@dataclass(frozen=True)
class Admitted:
    """A request that passed. `adapter` is None for the base model alone."""

    caller: Caller
    tenant: str
    adapter: ResolvedAdapter | None

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
    """Asks the registry, and logs who was turned away."""

    def __init__(self, registry: RegistryClient, served: ServedModel) -> None:
        self._registry = registry
        self._served = served

    async def identify(self, context: aio.ServicerContext[Any, Any]) -> Caller:
        """The caller of an RPC; UNAUTHENTICATED without a valid token or certificate."""
        try:
            token = bearer_token(context)
            if token is not None:
                return Caller.from_identity(await self._registry.identify(token))
            return await self._identify_certificate(peer_subjects(context))
        except UnauthenticatedError as error:
            _log_denial(error, peer=context.peer())
            raise

    async def _identify_certificate(self, subjects: Sequence[str]) -> Caller:
        """The one principal that a verified certificate names, as the registry would find it."""
        found: dict[str, Caller] = {}
        for subject in subjects[:_MAX_SUBJECTS]:
            with contextlib.suppress(UnauthenticatedError):
                identity = await self._registry.identify(subject=subject)
                found[identity.principal] = Caller.from_identity(identity)
        if len(found) != 1 or len(subjects) > _MAX_SUBJECTS:
            raise invalid_credential()
        return next(iter(found.values()))

    async def admit(
        self,
        context: aio.ServicerContext[Any, Any],
        *,
        tenant: str,
        adapter: str,
        request_id: str = "",
    ) -> Admitted:
        """Passes a request with these `tenant` and `adapter` fields, or says why not."""
        caller = await self.identify(context)
        try:
            effective = effective_tenant(caller, tenant)
            return Admitted(caller, effective, await self._resolve(caller, effective, adapter))
        except PermissionDeniedError as error:
            _log_denial(error, request_id=request_id, principal=caller.principal, tenant=tenant)
            raise

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
            return await self._registry_resolve(name, tenant)
        except (PermissionDeniedError, NotFoundError, FailedPreconditionError):
            return None

    async def _resolve(self, caller: Caller, tenant: str, adapter: str) -> ResolvedAdapter | None:
        reference = self._reference(adapter, tenant)
        if not caller.may_use_adapters(tenant):
            resource = reference.adapter_name if reference else str(TenantName(tenant))
            raise permission_denied("adapters.use", resource)
        if reference is None:
            return None
        return await self._registry_resolve(reference.resource_name, tenant)

    def _reference(self, adapter: str, tenant: str) -> AdapterReference | None:
        if not adapter:
            return None
        return parse_adapter_reference(
            adapter, own_tenant=tenant, base_model=self._served.base_model
        )

    async def _registry_resolve(self, name: str, tenant: str) -> ResolvedAdapter:
        return await self._registry.resolve(
            name,
            tenant=tenant,
            base_model=self._served.base_model,
            base_model_revision=self._served.revision,
        )


def _log_denial(error: LorikeetError, **fields: str) -> None:
    logger.warning("denied", extra=log_fields(reason=error.reason, detail=error.metadata, **fields))
