"""What must hold before anything is served; the registry says what this process should be."""

from inference_service.adapters.registry_client import RegistryClient
from inference_service.adapters.registry_watch import RegistryWatch
from inference_service.config import Settings
from inference_service.model_files import ModelFiles
from lorikeet.rpc.errors import LorikeetError, NotFoundError, PermissionDeniedError
from lorikeet.rpc.server import InsecureBindError, check_binding
from protos import registry_pb2


class StartError(RuntimeError):
    """The service must not start; the message says what to change."""


def check_registry_address(settings: Settings) -> None:
    """API keys must not cross a network in plaintext unless the operator said so."""
    try:
        check_binding(settings.registry, insecure=settings.insecure)
    except InsecureBindError:
        raise StartError(
            f"refusing to send credentials to {settings.registry} without TLS: "
            "give --registry-tls-ca, use a registry on loopback or pass --insecure"
        ) from None


async def follow_registry(watch: RegistryWatch, settings: Settings) -> None:
    """Nobody passes before there is a lease on what the registry says."""
    try:
        await watch.start(settings.registry_wait_seconds)
    except PermissionDeniedError as error:
        raise StartError(
            "this credential may not follow the registry's changes: "
            "grant its principal act_as for every tenant ('*')"
        ) from error
    except LorikeetError as error:
        raise StartError(f"registry {settings.registry}: {error.message}") from error


async def registered_base_model(
    registry: RegistryClient, settings: Settings, model_files: ModelFiles
) -> registry_pb2.BaseModel:
    """Serving another model than adapters were made for gives nonsense, without any error."""
    base_model = settings.base_model
    try:
        registered = await registry.get_base_model(base_model, wait=settings.registry_wait_seconds)
    except (NotFoundError, PermissionDeniedError) as error:
        raise StartError(
            f"base model '{base_model}' is not registered, or this credential may not see it"
        ) from error
    except LorikeetError as error:
        raise StartError(f"registry {settings.registry}: {error.message}") from error
    if registered.config_digest != model_files.config_digest:
        raise StartError(
            f"{settings.model} is not the registered base model '{base_model}': "
            f"its config has digest {model_files.config_digest}, "
            f"the registry says {registered.config_digest}"
        )
    if settings.revision not in ("", registered.revision):
        raise StartError(
            f"base model '{base_model}' is registered at revision '{registered.revision}', "
            f"not '{settings.revision}'"
        )
    return registered
