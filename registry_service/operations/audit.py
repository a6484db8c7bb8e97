"""The audit trail, for administrators and for auditors of the tenants they audit."""

from datetime import UTC, datetime

from lorikeet.rpc.errors import permission_denied
from lorikeet.rpc.names import PrincipalName
from protos import registry_pb2 as pb
from registry_service.calls import Call
from registry_service.messages import audit_message
from registry_service.repository import audit, journal
from registry_service.repository.audit import AuditFilter
from registry_service.requests import check_text, invalid

_MAX_PREFIX = 512
_MAX_NAME = 160
_OUTCOMES = ("ok", "denied")
_NOT_PRINCIPALS = (journal.SYSTEM.principal, journal.NOBODY)


def list_audit_events(call: Call, request: pb.ListAuditEventsRequest) -> pb.ListAuditEventsResponse:
    tenants = call.caller.audited_tenants()
    if tenants is not None and not tenants:
        raise permission_denied("audit", "auditEvents")
    wanted = _filter(request, tenants)
    page = call.pages.message_page(
        request,
        ["auditEvents", wanted, sorted(tenants) if tenants is not None else "*"],
        lambda before, limit: audit.list_before(call.session, wanted, before, limit),
        lambda row: row.id,
        audit_message,
    )
    return pb.ListAuditEventsResponse(events=page.rows, next_page_token=page.next_page_token)


def _filter(request: pb.ListAuditEventsRequest, tenants: frozenset[str] | None) -> AuditFilter:
    action = check_text(request.action, "action", _MAX_NAME)
    is_prefix = action.endswith(".*")
    if "*" in action.removesuffix("*" if is_prefix else ""):
        raise invalid("action", 'a star may only stand for all that follow a dot: "adapters.*"')
    if request.outcome not in ("", *_OUTCOMES):
        raise invalid("outcome", 'must be "ok" or "denied"')
    if request.principal and request.principal not in _NOT_PRINCIPALS:
        PrincipalName.parse(request.principal, "principal")
    return AuditFilter(
        resource_prefix=check_text(request.resource_prefix, "resource_prefix", _MAX_PREFIX),
        principal=request.principal,
        action="" if is_prefix else action,
        action_prefix=action.removesuffix("*") if is_prefix else "",
        outcome=request.outcome,
        request_id=check_text(request.request_id, "request_id", _MAX_NAME),
        start_time=_time(request, "start_time"),
        end_time=_time(request, "end_time"),
        tenants=tenants,
    )


def _time(request: pb.ListAuditEventsRequest, field: str) -> datetime | None:
    if not request.HasField(field):
        return None
    try:
        time: datetime = getattr(request, field).ToDatetime(tzinfo=UTC)
    except ValueError as error:
        raise invalid(field, "is not a time between the years 1 and 9999") from error
    return time
