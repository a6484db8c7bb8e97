"""gRPC's handlers, whatever their kind: what interceptors wrap."""

from collections.abc import Callable
from typing import Any

import grpc

Handler = Callable[[Any, Any], Any]
_KINDS = ("unary_unary", "stream_unary", "unary_stream", "stream_stream")


def with_behavior(handler: Any, wrap: Callable[[Handler], Handler]) -> Any:
    """The same method, whose behavior `wrap` has made of its own."""
    kind = next(kind for kind in _KINDS if getattr(handler, kind))
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    return make(
        wrap(getattr(handler, kind)),
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
