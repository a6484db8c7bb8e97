"""What tenants are granted here: their own limits from the registry, over this server's."""

import math
from collections import OrderedDict
from typing import Final

from inference_service.adapters.registry_client import RegistryClient
from inference_service.adapters.registry_watch import RegistryChange, RegistryWatch
from inference_service.serving_limits import ServingLimits
from lorikeet.rpc.errors import (
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
    permission_denied,
)
from lorikeet.rpc.feed_cache import FeedCache, Loaded
from lorikeet.rpc.names import TenantName

_MAX_TENANTS: Final = 10_000


class TenantLimits:
    """Follows the registry's feed, so that a change counts from the next request on.

    While the registry is away, what was known last holds.
    """

    def __init__(
        self, registry: RegistryClient, watch: RegistryWatch, defaults: ServingLimits
    ) -> None:
        self._registry = registry
        self._watch = watch
        self._defaults = defaults
        self._current: FeedCache[str, ServingLimits] = FeedCache(
            _MAX_TENANTS, lambda: watch.is_current
        )
        self._last_known: OrderedDict[str, ServingLimits] = OrderedDict()
        watch.tell(self._changed, self._current.clear)

    async def of(self, tenant: str) -> ServingLimits:
        """UNAVAILABLE when the registry is away and nothing was known of the tenant."""
        known, name = self._last_known.get(tenant), str(TenantName(tenant))
        if known is not None and not self._watch.is_current:
            return known
        try:
            return await self._current.get(tenant, name, lambda: self._load(tenant))
        except UnavailableError:
            if known is None:
                raise
            return known

    async def _load(self, tenant: str) -> Loaded[ServingLimits]:
        try:
            found = await self._registry.get_tenant(tenant)
        except (NotFoundError, PermissionDeniedError) as error:  # deleted since it was admitted
            raise permission_denied("adapters.use", str(TenantName(tenant))) from error
        limits = self._defaults.overridden(found.serving)
        self._last_known[tenant] = limits
        self._last_known.move_to_end(tenant)
        if len(self._last_known) > _MAX_TENANTS:
            self._last_known.popitem(last=False)
        return Loaded(limits, frozenset({str(TenantName(tenant))}), math.inf)

    def _changed(self, change: RegistryChange) -> None:
        self._current.forget(change.resource)
