"""What a failed call means to a caller."""

import grpc
from grpc import aio

from lorikeet.rpc.errors import InternalError, UnavailableError, from_rpc_error


def failed(details: str) -> aio.AioRpcError:
    nothing = aio.Metadata()
    return aio.AioRpcError(grpc.StatusCode.INTERNAL, nothing, nothing, details, None)


def test_a_connection_lost_under_a_write_is_an_outage() -> None:
    assert isinstance(from_rpc_error(failed("Internal error from Core")), UnavailableError)
    assert isinstance(from_rpc_error(failed("internal error, incident 1")), InternalError)
