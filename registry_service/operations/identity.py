"""IdentifyCaller: who calls, or who presented something to the service that calls."""

from collections.abc import Callable

from lorikeet.rpc.credentials import invalid_credential
from lorikeet.rpc.errors import LorikeetError, UnauthenticatedError, permission_denied
from lorikeet.rpc.names import TenantName
from protos import registry_pb2 as pb
from registry_service.access import ACT_AS, Caller
from registry_service.calls import Call
from registry_service.credentials import Credential
from registry_service.messages import grant_messages
from registry_service.repository import principals


def identify_caller(
    presented: Credential | LorikeetError | None,
) -> Callable[[Call, pb.IdentifyCallerRequest], pb.Identity]:
    """The caller, or whoever presented something to the caller; an error is what is wrong with it.

    A service learns nothing about principals of tenants it may not act for: what they present is
    not valid to it. That it is theirs, and not its own credential, is told in the error's metadata.
    """

    def identify_caller(call: Call, request: pb.IdentifyCallerRequest) -> pb.Identity:
        if presented is None:
            return _identity(call.caller)
        if not call.caller.is_agent:
            raise permission_denied("act_as", str(call.caller.name))
        try:
            if isinstance(presented, LorikeetError):
                raise presented
            owner = principals.authenticate(call.session, presented)
        except UnauthenticatedError:
            raise _presented_is_invalid() from None
        if not call.caller.holds(ACT_AS, owner.tenant):
            raise _presented_is_invalid()
        return _identity(owner)

    return identify_caller


def _identity(caller: Caller) -> pb.Identity:
    identity = pb.Identity(
        principal=str(caller.name),
        tenant=str(TenantName(caller.tenant)),
        grants=grant_messages(caller.grants),
        api_key=str(caller.api_key or ""),
    )
    if caller.expire_time is not None:
        identity.expire_time.FromDatetime(caller.expire_time)
    return identity


def _presented_is_invalid() -> UnauthenticatedError:
    error = invalid_credential()
    error.metadata["credential"] = "presented"
    return error
