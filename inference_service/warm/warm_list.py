"""What the registry wants kept loaded, as of now."""

from collections.abc import Iterable

from inference_service.adapters.artifact import ResolvedAdapter
from inference_service.adapters.registry_client import RegistryClient
from inference_service.adapters.registry_watch import RegistryChange
from inference_service.gate import Gate
from lorikeet.rpc.names import AdapterName
from protos import registry_pb2

# Writes after which an adapter may be on the list that was not.
_MAY_ADD = ("adapters.create", "adapters.update", "adapters.undelete")


class WarmList:
    """The warm aliases of one base model, each resolved for its adapter's owner."""

    def __init__(self, registry: RegistryClient, gate: Gate, base_model: str) -> None:
        self._registry, self._gate, self._base_model = registry, gate, base_model
        self._names: frozenset[str] = frozenset()

    async def read(self) -> list[ResolvedAdapter]:
        """Without aliases that do not exist yet, or whose version cannot be used now.

        UNAVAILABLE when the registry is away; other registry errors pass through.
        """
        adapters = await self._registry.list_warm_adapters(self._base_model)
        self._names = frozenset(adapter.name for adapter in adapters)
        found = {}
        for name, owner in _aliases(adapters):
            adapter = await self._gate.resolve_again(name, owner)
            if adapter is not None:
                found[adapter.artifact.digest] = adapter
        return list(found.values())

    def is_concerned(self, change: RegistryChange) -> bool:
        """Whether a change may make the list another one than was read last."""
        adapter = "/".join(change.resource.split("/")[:4])  # of an alias or a version, too
        return adapter in self._names or change.kind in _MAY_ADD


def _aliases(adapters: Iterable[registry_pb2.Adapter]) -> list[tuple[str, str]]:
    """The resource names of the aliases, each with the tenant that it belongs to."""
    return [
        (f"{adapter.name}/aliases/{alias}", AdapterName.parse(adapter.name).tenant)
        for adapter in adapters
        for alias in adapter.warm_aliases
    ]
