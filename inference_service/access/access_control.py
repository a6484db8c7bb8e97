"""Who may use what, put together: the gate of requests, and what may end them after it."""

from inference_service.access.callers import Callers
from inference_service.access.resolutions import Resolutions, ServedModel
from inference_service.access.revocations import Revocations
from inference_service.access.tenant_prefixes import TenantPrefixes
from inference_service.adapters.registry_client import RegistryClient
from inference_service.adapters.registry_watch import RegistryWatch
from inference_service.engine.client import EngineClient
from inference_service.gate import Gate
from inference_service.known_adapters import KnownAdapters


class AccessControl:
    """`gate` and `revocations` live as long as the service.

    The watch tells its listeners in the order of their making: what is remembered ends before it is
    asked about again.
    """

    def __init__(
        self,
        registry: RegistryClient,
        watch: RegistryWatch,
        served: ServedModel,
        engine: EngineClient,
        known_adapters: KnownAdapters,
    ) -> None:
        callers = Callers(registry, watch)
        resolutions = Resolutions(registry, watch, served)
        self.gate = Gate(callers, resolutions, watch, served.base_model)
        self._prefixes = TenantPrefixes(engine, resolutions, known_adapters, watch)
        self.revocations = Revocations(self.gate, watch, self._prefixes)

    async def close(self) -> None:
        await self.revocations.close()
        await self._prefixes.close()
