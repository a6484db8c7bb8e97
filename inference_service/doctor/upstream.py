"""The registry as the inference service reaches it, with the service's own credential."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc

from inference_service.config import CredentialsError, Settings
from inference_service.identity import Caller
from inference_service.model_files import read_model_files
from lorikeet.rpc.checklist import CheckFailed, Checklist
from lorikeet.rpc.errors import (
    LorikeetError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    from_rpc_error,
)
from lorikeet.rpc.names import BaseModelName
from lorikeet.rpc.reachability import Endpoint, check_endpoint
from lorikeet.rpc.tls import TlsFilesError
from protos import registry_pb2, registry_pb2_grpc

_SECONDS: Final = 5.0
_MAX_SKEW_SECONDS: Final = 10.0


def check_upstream(checklist: Checklist, settings: Settings) -> None:
    """Adds `upstream.*`."""
    tls = settings.registry_tls_files()
    authority = tls.ca if tls else None
    try:
        endpoint = Endpoint.of_grpc(settings.registry, tls=tls is not None, ca=authority)
    except ValueError:
        checklist.run("upstream.reach", "HTTP", lambda: _malformed(settings.registry))
        return
    reached = check_endpoint(checklist, "upstream", endpoint)
    checklist.run("upstream.credential", "registry", lambda: _credential(settings), [reached])
    needs = ["upstream.credential"]
    checklist.run("upstream.clock", "registry", lambda: _clock(settings), needs)
    needs.append("inference.model")
    checklist.run("upstream.base_model", "registry", lambda: _base_model(settings), needs)


def _malformed(address: str) -> str:
    raise CheckFailed(f"registry: {address!r} is not host:port", "add the port")


def _credential(settings: Settings) -> str:
    """Whose it is, and whether it may act for every tenant, as serving all of them takes."""
    with _registry(settings) as registry:
        caller = Caller.from_identity(
            registry.access.IdentifyCaller(registry_pb2.IdentifyCallerRequest(), **registry.how)
        )
    if not caller.is_administrator:
        raise CheckFailed(
            f"{caller.principal} may not act for every tenant",
            "grant it act_as in every tenant: lorikeet principals set-grants",
        )
    return f"valid: {caller.principal}"


def _clock(settings: Settings) -> str:
    """By the time in the first heartbeat of the feed: tokens and certificates need clocks."""
    request = registry_pb2.WatchAdaptersRequest(only_new=True)
    with _registry(settings) as registry:
        feed = registry.adapters.WatchAdapters(request, **registry.how)
        beats = (response.heartbeat.time for response in feed if response.HasField("heartbeat"))
        skew = time.time() - next(beats).ToNanoseconds() / 1e9
        feed.cancel()
    if abs(skew) > _MAX_SKEW_SECONDS:
        direction = "ahead of" if skew > 0 else "behind"
        raise CheckFailed(
            f"this machine's clock is {abs(skew):.0f} s {direction} the registry's",
            "set both by NTP: tokens and certificates are judged by the clock",
        )
    return f"the change feed can be followed; clocks agree within {_MAX_SKEW_SECONDS:g} s"


def _base_model(settings: Settings) -> str:
    name = str(BaseModelName(settings.base_model))
    with _registry(settings) as registry:
        request = registry_pb2.GetBaseModelRequest(name=name)
        registered = registry.adapters.GetBaseModel(request, **registry.how)
    digest = read_model_files(settings.model).config_digest
    if registered.config_digest != digest:
        raise CheckFailed(
            f"{settings.model} has config digest {digest}, registered is "
            f"{registered.config_digest}",
            "these are different models or revisions: the service will not start",
        )
    return f"{settings.model} is {name} at {registered.revision}"


@dataclass(frozen=True)
class _Registry:
    """`how`: with whose credential, and until when."""

    access: Any
    adapters: Any
    how: dict[str, Any]


@contextmanager
def _registry(settings: Settings) -> Iterator[_Registry]:
    """A connection for one question; its errors are failures of the check."""
    tls = settings.registry_tls_files()
    make: Any = registry_pb2_grpc  # its stubs have no types
    try:
        key = settings.registry_api_key()
        how = {
            "metadata": (("authorization", f"Bearer {key}"),) if key else (),
            "timeout": _SECONDS,
        }
        channel = (
            grpc.secure_channel(settings.registry, tls.credentials())
            if tls
            else grpc.insecure_channel(settings.registry)
        )
        with channel:
            yield _Registry(make.AccessServiceStub(channel), make.AdapterRegistryStub(channel), how)
    except (CredentialsError, TlsFilesError) as error:
        raise CheckFailed(str(error), "correct credentials, or registry_tls_*") from error
    except grpc.RpcError as error:
        raise _failure(from_rpc_error(error)) from error


def _failure(error: LorikeetError) -> CheckFailed:
    if isinstance(error, UnauthenticatedError):
        return CheckFailed(
            "the registry does not know this service's credential",
            "give credentials the key of the registry's credentials.json, or a new one",
        )
    if isinstance(error, NotFoundError | PermissionDeniedError):
        return CheckFailed(error.message, "register it, or correct base_model and the grants")
    return CheckFailed(f"{error.code.name}: {error.message}", "look at the registry's log")
