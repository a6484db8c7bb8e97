"""KV that the engine keeps for a tenant ends with the tenant's right to what computed it."""

import asyncio
import logging

from inference_service.access.concerns import concerns_version
from inference_service.access.resolutions import Resolutions
from inference_service.access.reviews import Reviews
from inference_service.adapters.registry_watch import RegistryChange, RegistryWatch
from inference_service.engine.client import EngineClient, EngineDiedError
from inference_service.known_adapters import KnownAdapters, KnownUse
from lorikeet.rpc.errors import (
    FailedPreconditionError,
    LorikeetError,
    NotFoundError,
    PermissionDeniedError,
)

logger = logging.getLogger(__name__)


class TenantPrefixes:
    """Asks again about every use of an adapter that changed, also where no stream runs."""

    def __init__(
        self,
        engine: EngineClient,
        resolutions: Resolutions,
        known_adapters: KnownAdapters,
        watch: RegistryWatch,
    ) -> None:
        self._engine = engine
        self._resolutions = resolutions
        self._known_adapters = known_adapters
        self._reviews = Reviews(self._look)
        self._drops: set[asyncio.Task[None]] = set()
        watch.tell(self._changed, self._drop_all)

    def drop(self, tenant: str | None, digest: str | None) -> None:
        """Has the engine forget the prefixes of a tenant and adapter; None: of any."""
        task = asyncio.create_task(self._drop(tenant, digest))
        self._drops.add(task)
        task.add_done_callback(self._drops.discard)

    async def close(self) -> None:
        await self._reviews.close()
        for task in self._drops:
            task.cancel()
        await asyncio.gather(*self._drops, return_exceptions=True)

    def _changed(self, change: RegistryChange) -> None:
        if change.kind == "tenants.delete":
            self.drop(change.resource.removeprefix("tenants/"), None)
        for use in self._known_adapters.of_adapter("/".join(change.resource.split("/")[:4])):
            if concerns_version(change, use.version_name):
                self._reviews.due(use)

    def _drop_all(self) -> None:
        """Changes were missed: who lost a right is not known."""
        self.drop(None, None)

    async def _look(self, use: KnownUse) -> bool:
        try:
            await self._resolutions.resolve(use.version_name, use.tenant)
        except (PermissionDeniedError, NotFoundError, FailedPreconditionError):
            self._known_adapters.forget(use)
            self.drop(use.tenant, use.digest)
        except LorikeetError:
            return False
        return True

    async def _drop(self, tenant: str | None, digest: str | None) -> None:
        if not self._engine.is_alive:
            return  # its cache went with it
        try:
            await self._engine.drop_prefixes(tenant, digest)
        except EngineDiedError:
            return
