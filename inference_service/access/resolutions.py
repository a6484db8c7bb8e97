"""Which version a tenant means and may use: from memory, as long as the registry's feed says so."""

import asyncio
import math
from dataclasses import dataclass
from functools import partial
from typing import Final

from inference_service.adapters.artifact import ResolvedAdapter
from inference_service.adapters.registry_client import RegistryClient, registry_unavailable
from inference_service.adapters.registry_watch import RegistryChange, RegistryWatch
from lorikeet.rpc.feed_cache import FeedCache, Loaded
from lorikeet.rpc.names import AdapterName, parse_adapter_selector

_MAX_RESOLUTIONS: Final = 100_000
# One process of the registry may know of a change a moment later than another.
_MAX_LAG_SECONDS: Final = 2.0
_LAG_PAUSE_SECONDS: Final = 0.05


@dataclass(frozen=True)
class ServedModel:
    """The base model of this server, as registered."""

    base_model: str
    revision: str


class Resolutions:
    """Adapters by (tenant, resource name); what is denied or absent is not remembered.

    So a denial and an absence cost the same: one question to the registry, each time.
    """

    def __init__(self, registry: RegistryClient, watch: RegistryWatch, served: ServedModel) -> None:
        self._registry = registry
        self._watch = watch
        self._served = served
        self._cache: FeedCache[tuple[str, str], ResolvedAdapter] = FeedCache(
            _MAX_RESOLUTIONS, lambda: watch.lease_left > 0
        )
        watch.tell(self._changed, self._cache.clear)

    async def resolve(self, name: str, tenant: str) -> ResolvedAdapter:
        """What `tenant` may use under a resource name; the registry's refusal if it may not."""
        selector = parse_adapter_selector(name)
        adapter = str(AdapterName(selector.tenant, selector.adapter))
        load = partial(self._load, name, tenant, adapter)
        return await self._cache.get((tenant, name), adapter, load)

    def _changed(self, change: RegistryChange) -> None:
        parts = change.resource.split("/")
        if parts[::2][:2] == ["tenants", "adapters"]:
            self._cache.forget("/".join(parts[:4]))
        elif parts[::2] == ["tenants"]:
            self._cache.clear()  # it may have stood on any allow-list

    async def _load(self, name: str, tenant: str, adapter: str) -> Loaded[ResolvedAdapter]:
        """An answer that is no older than what the watch had told when it was asked for."""
        oldest = self._watch.position
        deadline = asyncio.get_running_loop().time() + _MAX_LAG_SECONDS
        while True:
            found = await self._registry.resolve(
                name,
                tenant=tenant,
                base_model=self._served.base_model,
                base_model_revision=self._served.revision,
            )
            if found.revision >= oldest:
                return Loaded(found, frozenset({adapter}), math.inf)
            if asyncio.get_running_loop().time() > deadline:
                raise registry_unavailable()
            await asyncio.sleep(_LAG_PAUSE_SECONDS)
