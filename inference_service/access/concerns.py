"""Which changes of the registry may take something away, and from whom: pure decisions."""

from inference_service.adapters.registry_watch import RegistryChange
from inference_service.identity import Caller


def concerns_caller(change: RegistryChange, caller: Caller) -> bool:
    """Whether who presented the caller's credential, or what that may do, may be another now."""
    match change.resource.split("/"):
        case ["tenants", _]:
            return True  # with a tenant the grants in it end, whoever held them
        case ["tenants", _, "principals", _]:
            # A certificate or token means whoever goes by its subject.
            return not caller.api_key or caller.principal == change.resource
        case ["tenants", _, "apiKeys", _]:
            return caller.api_key == change.resource
    return False


def concerns_version(change: RegistryChange, version_name: str) -> bool:
    """Whether who may use a version may be another now. A moved alias takes nothing away."""
    match change.resource.split("/"):
        case ["tenants", _]:
            return True
        case ["tenants", _, "adapters", _]:
            return version_name.startswith(f"{change.resource}/")
        case ["tenants", _, "adapters", _, "versions", _]:
            return version_name == change.resource
    return False
