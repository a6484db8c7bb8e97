"""The services as a client sees them: address, certificate, health, credential."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc

from lorikeet.admin import AdminClient
from lorikeet.client import Client
from lorikeet.connection import Connection, InsecureTargetError
from lorikeet.rpc.checklist import CheckFailed, Checklist, CheckSkipped, Layer
from lorikeet.rpc.errors import LorikeetError, UnauthenticatedError, UnavailableError
from lorikeet.rpc.probe import health_of
from lorikeet.rpc.reachability import Endpoint, check_endpoint
from lorikeet.rpc.tls import TlsFilesError, channel_credentials

_SECONDS = 5.0
_TLS_SCHEME = "grpcs://"


@dataclass(frozen=True)
class Target:
    """A service and as whom to call it; an empty address: there is nothing to check."""

    address: str
    api_key: str = field(default="", repr=False)
    tenant: str = ""
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    insecure: bool = False

    @property
    def tls(self) -> bool:
        return any((self.ca, self.cert, self.key)) or self.address.startswith(_TLS_SCHEME)

    @property
    def has_identity(self) -> bool:
        return bool(self.api_key or self.cert)

    def endpoint(self) -> Endpoint:
        """ValueError when the address is not host:port."""
        return Endpoint.of_grpc(self.address.removeprefix(_TLS_SCHEME), tls=self.tls, ca=self.ca)

    def credentials(self) -> grpc.ChannelCredentials | None:
        return channel_credentials(self.ca, self.cert, self.key) if self.tls else None

    def admin(self) -> AdminClient:
        credentials = self.credentials()
        return AdminClient(
            self.address, self.api_key, credentials=credentials, insecure=self.insecure
        )

    def client(self) -> Client:
        credentials = self.credentials()
        return Client(
            self.address,
            self.api_key,
            tenant=self.tenant,
            credentials=credentials,
            insecure=self.insecure,
        )


NOT_SERVING: Final = "NOT_SERVING"
NO_TARGET: Final = Target("")


def check_registry(checklist: Checklist, target: Target) -> None:
    """Adds `registry.*`."""
    if check_health(checklist, "registry", "registry", target):
        checklist.run(
            "registry.credential",
            "registry",
            lambda: _credential(target),
            ["registry.health"],
        )


def check_health(checklist: Checklist, name: str, layer: Layer, target: Target) -> bool:
    """Adds `<name>.reach`, `<name>.tls` and `<name>.health`; whether there is an address at all."""
    if not target.address:
        checklist.run(f"{name}.reach", "HTTP", _skip(f"no address: give --{name}"))
        return False
    try:
        endpoint = target.endpoint()
    except ValueError:
        checklist.run(f"{name}.reach", "HTTP", lambda: _malformed(target.address))
        return False
    last = check_endpoint(checklist, name, endpoint)
    checklist.run(f"{name}.health", layer, lambda: _health(target), [last])
    return True


def _skip(reason: str) -> Callable[[], str]:
    def skip() -> str:
        raise CheckSkipped(reason)

    return skip


def _malformed(address: str) -> str:
    raise CheckFailed(f"{address!r} is not host:port", "add the port")


def _health(target: Target) -> str:
    try:
        connection = Connection(
            target.address,
            target.api_key,
            credentials=target.credentials(),
            insecure=True,  # health carries no key
        )
    except TlsFilesError as error:
        raise CheckFailed(str(error), "correct --tls-ca, --tls-cert, --tls-key") from error
    channel: Any = connection.open(grpc)
    with channel:
        health = health_of(channel, _SECONDS)
    if health == "SERVING":
        return "SERVING"
    if health == NOT_SERVING:
        raise CheckFailed(health, "it is starting, stopping, or its engine is down: see its log")
    raise CheckFailed(
        health,
        "the port answers, but not as gRPC: is it this service's port, with or without TLS as "
        "given, and does it want a client certificate?",
    )


def _credential(target: Target) -> str:
    if not target.has_identity:
        raise CheckSkipped("no API key: give --api-key or LORIKEET_API_KEY")
    with explained(), target.admin() as admin:
        identity = admin.identify_caller()
    return f"valid: {identity.principal}"


@contextmanager
def explained() -> Iterator[None]:
    """Errors of a call become failures of the check that makes it."""
    try:
        yield
    except InsecureTargetError as error:
        raise CheckFailed(str(error), "give --tls-ca") from error
    except UnauthenticatedError as error:
        raise CheckFailed(
            "the API key is not valid", "make one: lorikeet keys create PRINCIPAL"
        ) from error
    except UnavailableError as error:
        raise CheckFailed(error.message, "what is behind the service does not answer") from error
    except LorikeetError as error:
        raise CheckFailed(
            f"{error.code.name} {error.reason}: {error.message}", "see the message"
        ) from error
