"""What a failed call means to a caller."""

import grpc
from grpc import aio

from lorikeet.rpc.errors import (
    CancelledByPeerError,
    InternalError,
    UnavailableError,
    from_rpc_error,
)


def failed(details: str, code: grpc.StatusCode = grpc.StatusCode.INTERNAL) -> aio.AioRpcError:
    nothing = aio.Metadata()
    return aio.AioRpcError(code, nothing, nothing, details, None)


def test_a_connection_lost_under_a_write_is_an_outage() -> None:
    assert isinstance(from_rpc_error(failed("Internal error from Core")), UnavailableError)
    assert isinstance(from_rpc_error(failed("internal error, incident 1")), InternalError)


def test_a_server_that_stops_is_an_outage() -> None:
    cancelled = grpc.StatusCode.CANCELLED
    assert isinstance(from_rpc_error(failed("CANCELLED", cancelled)), UnavailableError)
    assert isinstance(from_rpc_error(failed("given up", cancelled)), CancelledByPeerError)
