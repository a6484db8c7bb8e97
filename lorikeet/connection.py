"""A connection: where, as whom, with which channel settings, and how one call is made over it."""

import ipaddress
import json
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message

from lorikeet.operations.call import Call, StreamCall
from lorikeet.operations.naming import tenant_name
from lorikeet.rpc.trace_context import current_trace_headers

_TLS_SCHEME = "grpcs://"
_INFERENCE = "lorikeet.inference.v1"
_REGISTRY = "lorikeet.registry.v1"
# Unary calls that may be made twice; only these are retried, and only when UNAVAILABLE.
_IDEMPOTENT_METHODS = {
    f"{_INFERENCE}.Inference": ("Tokenize", "Detokenize", "GetServerInfo"),
    f"{_INFERENCE}.AdapterRuntime": ("ListLoadedAdapters", "ListRequests"),
    f"{_REGISTRY}.AdapterRegistry": (
        *("GetAdapter", "ListAdapters", "GetAdapterVersion", "ListAdapterVersions", "SetAlias"),
        *("GetAccessPolicy", "GetBaseModel", "ListBaseModels", "ListAuditEvents"),
        "ResolveAdapter",
    ),
    f"{_REGISTRY}.ArtifactService": ("GetUpload", "CommitUpload", "GetDownloadUrl"),
    f"{_REGISTRY}.AccessService": (
        *("GetTenant", "ListTenants", "GetPrincipal", "ListPrincipals", "SetGrants"),
        "ListApiKeys",
        "IdentifyCaller",
    ),
}
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [
                {"service": service, "method": method}
                for service, methods in _IDEMPOTENT_METHODS.items()
                for method in methods
            ],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
# Two seconds until a silent server is asked, two for its answer: a call ends within five.
_CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.keepalive_time_ms", 2000),
    ("grpc.keepalive_timeout_ms", 2000),
    ("grpc.http2.ping_timeout_ms", 2000),  # a minute by default, whatever keepalive_timeout says
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 3000),  # the time a connection attempt may take
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
]


class InsecureTargetError(ValueError):
    """An API key would cross a network in plaintext."""


@dataclass(frozen=True)
class Connection:
    """Where a client connects and as whom. The key is kept out of the representation.

    `target` is host:port, or grpcs://host:port for TLS with the public authorities; `credentials`
    are TLS with others, see `lorikeet.tls_credentials`. `api_key` is an API key or a JWT; without
    one, the client certificate in `credentials` says who calls.
    InsecureTargetError when bytes would cross a network in plaintext, unless `insecure` says that
    the network itself is private.
    """

    target: str
    api_key: str = field(default="", repr=False)
    tenant: str = ""
    credentials: grpc.ChannelCredentials | None = field(default=None, repr=False)
    insecure: bool = False

    def __post_init__(self) -> None:
        if self.uses_tls or self.insecure or _is_local(self.target):
            return
        raise InsecureTargetError(
            f"refusing to send an API key to {self.target} in plaintext:"
            " use grpcs:// or TLS credentials, or say `insecure` on a private network"
        )

    @property
    def uses_tls(self) -> bool:
        return self.credentials is not None or self.target.startswith(_TLS_SCHEME)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.api_key}"),) if self.api_key else ()

    def prepare(self, request: Message) -> Message:
        """Fills in the client's tenant where a request leaves it open, and the full name of it."""
        field = request.DESCRIPTOR.fields_by_name.get("tenant")
        if field is not None and field.type == field.TYPE_STRING:
            tenant = getattr(request, field.name) or self.tenant
            if tenant:
                setattr(request, field.name, tenant_name(tenant))
        return request

    def open(self, api: Any) -> Any:
        """A channel of `grpc` or of `grpc.aio`."""
        if self.uses_tls:
            address = self.target.removeprefix(_TLS_SCHEME)
            credentials = self.credentials or grpc.ssl_channel_credentials()
            return api.secure_channel(address, credentials, options=_CHANNEL_OPTIONS)
        return api.insecure_channel(self.target, options=_CHANNEL_OPTIONS)

    def invoke(self, channel: Any, call: Call[Any]) -> Any:
        """Makes a call; what comes back is the response, or an awaitable of it on aio."""
        if isinstance(call.request, Message):
            return self._start(channel.unary_unary, self.prepare(call.request), call)
        return self._start(channel.stream_unary, call.request(), call)

    def stream(self, channel: Any, call: StreamCall[Any]) -> Any:
        """Starts a call that is answered by a stream; it iterates sync or aio as the channel is."""
        return self._start(channel.unary_stream, self.prepare(call.request), call)

    def _start(self, method: Any, request: Any, call: Call[Any] | StreamCall[Any]) -> Any:
        bound = method(
            call.path,
            request_serializer=_serialize,
            response_deserializer=call.response_type.FromString,
        )
        metadata = (*self.metadata, *current_trace_headers())
        return bound(request, timeout=call.timeout, metadata=metadata)


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _is_local(target: str) -> bool:
    """Whether bytes to `target` stay on this machine."""
    if target.startswith("unix:"):
        return True
    host = target.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
