"""The audit trail; administrators only."""

from protos import registry_pb2 as pb
from registry_service.calls import Call
from registry_service.messages import audit_message
from registry_service.repository import journal
from registry_service.requests import check_text

_MAX_PREFIX = 512


def list_audit_events(call: Call, request: pb.ListAuditEventsRequest) -> pb.ListAuditEventsResponse:
    call.require_admin("auditEvents")
    prefix = check_text(request.resource_prefix, "resource_prefix", _MAX_PREFIX)
    page = call.pages.page(
        request,
        ["auditEvents", prefix],
        lambda before, limit: journal.list_audit(call.session, prefix, before, limit),
        lambda row: row.id,
    )
    return pb.ListAuditEventsResponse(
        events=[audit_message(row) for row in page.rows], next_page_token=page.next_page_token
    )
