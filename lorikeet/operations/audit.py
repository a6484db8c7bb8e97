"""The audit trail: who did what to the registry, and who was refused."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from lorikeet.operations.call import Operation, unary
from protos import registry_pb2 as pb

_PATH = "lorikeet.registry.v1.AdapterRegistry/ListAuditEvents"
_PAGE_SIZE = 500


def list_audit_events(
    *,
    resource_prefix: str = "",
    principal: str = "",
    action: str = "",
    outcome: str = "",
    request_id: str = "",
    start_time: datetime | None = None,
    end_time: datetime | None = None,
    limit: int = 1000,
) -> Operation[list[pb.AuditEvent]]:
    """The newest `limit` events that match every filter given, newest first.

    `action` may end in ".*"; `outcome` is "ok" or "denied"; times are aware datetimes.
    """
    request = pb.ListAuditEventsRequest(
        resource_prefix=resource_prefix,
        principal=principal,
        action=action,
        outcome=outcome,
        request_id=request_id,
        start_time=_timestamp(start_time),
        end_time=_timestamp(end_time),
    )
    events: list[pb.AuditEvent] = []
    while len(events) < limit:
        request.page_size = min(limit - len(events), _PAGE_SIZE)
        response = yield from unary(_PATH, request, pb.ListAuditEventsResponse)
        events.extend(response.events)
        if not response.next_page_token:
            break
        request.page_token = response.next_page_token
    return events


def _timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp
