"""The two layers below a service: does the address answer, and is its certificate trusted."""

import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lorikeet.rpc.checklist import CheckFailed, Checklist

_SECONDS = 5.0
_FEW_DAYS = 14
# Of X509_V_ERR_*, as OpenSSL numbers them.
_ADVICE = {
    7: ("was signed by another authority of that name", "the authority was made anew: give it"),
    9: ("is not valid yet", "compare the clocks of both machines, or issue it again"),
    10: ("has expired", "issue a new certificate; a running service takes it up by itself"),
    18: ("is signed by itself", "give it as the authority, if it is the one you expect"),
    19: ("has an unknown issuer", "give the file of the authority that signed it"),
    20: ("has an unknown issuer", "give the file of the authority that signed it"),
    62: ("is for other names", "use a name that is in it, or issue it for this name"),
    64: ("is for other addresses", "use a name that is in it, or issue it for this address"),
}


@dataclass(frozen=True)
class Endpoint:
    """Where something listens. `tls` with `ca` None trusts the public authorities."""

    host: str
    port: int
    tls: bool = False
    ca: Path | None = None
    alpn: tuple[str, ...] = ()

    @classmethod
    def of_grpc(cls, address: str, *, tls: bool, ca: Path | None) -> "Endpoint":
        host, _, port = address.rpartition(":")
        return cls(host.strip("[]"), int(port), tls, ca, ("h2",))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def check_endpoint(checklist: Checklist, prefix: str, endpoint: Endpoint) -> str:
    """Adds `<prefix>.reach` and, with TLS, `<prefix>.tls`; returns the name of the last."""
    checklist.run(f"{prefix}.reach", "HTTP", lambda: _reach(endpoint))
    if not endpoint.tls:
        return f"{prefix}.reach"
    checklist.run(f"{prefix}.tls", "TLS", lambda: _handshake(endpoint), [f"{prefix}.reach"])
    return f"{prefix}.tls"


def _reach(endpoint: Endpoint) -> str:
    try:
        with _connect(endpoint):
            return f"{endpoint} accepts connections"
    except socket.gaierror as error:
        raise CheckFailed(
            f"{endpoint.host} has no address: {error.strerror}",
            "correct the name, or the DNS of this machine",
        ) from error
    except TimeoutError as error:
        raise CheckFailed(
            f"{endpoint} does not answer in {_SECONDS:.0f} s",
            "a firewall or network policy may drop it: open the port",
        ) from error
    except OSError as error:
        raise CheckFailed(
            f"{endpoint} refuses: {error.strerror or error}",
            "start the service, or correct the port",
        ) from error


def _handshake(endpoint: Endpoint) -> str:
    try:
        context = ssl.create_default_context(cafile=endpoint.ca)
    except (OSError, ssl.SSLError) as error:
        raise CheckFailed(
            f"{endpoint.ca} holds no certificates that can be read: {error}",
            "give a PEM file of the authorities (a file, not a directory)",
        ) from error
    if endpoint.alpn:
        context.set_alpn_protocols(list(endpoint.alpn))
    try:
        with (
            _connect(endpoint) as plain,
            context.wrap_socket(plain, server_hostname=endpoint.host) as secure,
        ):
            spoken = secure.selected_alpn_protocol()
            described = _described(secure)
    except ssl.SSLCertVerificationError as error:
        what, advice = _ADVICE.get(error.verify_code, ("is refused", error.verify_message))
        raise CheckFailed(
            f"the certificate of {endpoint} {what} ({error.verify_message})", advice
        ) from error
    except (ssl.SSLError, OSError) as error:
        raise CheckFailed(
            f"{endpoint} does not speak TLS: {error.strerror or error}",
            "is it configured with a certificate, and is this its TLS port?",
        ) from error
    if endpoint.alpn and spoken not in endpoint.alpn:
        raise CheckFailed(
            f"{endpoint} speaks TLS, but not HTTP/2, which gRPC needs",
            "what answers there is no gRPC server: a proxy must pass HTTP/2 on (ALPN h2)",
        )
    return described


def _connect(endpoint: Endpoint) -> socket.socket:
    return socket.create_connection((endpoint.host, endpoint.port), timeout=_SECONDS)


def _described(connection: ssl.SSLSocket) -> str:
    certificate = connection.getpeercert() or {}
    seconds = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    ends = datetime.fromtimestamp(seconds, UTC)
    days = (ends - datetime.now(UTC)).days
    soon = ": renew it soon" if days < _FEW_DAYS else ""
    return f"{connection.version()}, trusted, valid for {days} more days{soon}"
