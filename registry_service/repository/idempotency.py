"""Request ids: a retried create gets what the first attempt created."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from google.protobuf.message import Message
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from registry_service.models import IdempotencyRow
from registry_service.requests import invalid

Row = TypeVar("Row")

_REQUEST_ID = re.compile(r"[!-~]{1,128}")


def once(
    session: Session,
    principal: str,
    request: Message,
    create: Callable[[], tuple[str, Row]],
    find: Callable[[str], Row],
) -> Row:
    """Runs `create` (resource name, row) unless this request id did, then `find`s its resource."""
    use = _use_of(principal, request)
    if use is None:
        return create()[1]
    known = session.get(IdempotencyRow, use.key)
    if known is None:
        claim = _claim(session, use.key, use.fingerprint)
        if claim is not None:
            claim.resource, row = create()
            return row
        known = session.get_one(IdempotencyRow, use.key)
    return find(_resource_of(known, use))


def earlier(session: Session, principal: str, request: Message) -> str | None:
    """The resource that this request id has made, for work that begins before `once`."""
    use = _use_of(principal, request)
    known = None if use is None else session.get(IdempotencyRow, use.key)
    return None if known is None or use is None else _resource_of(known, use)


@dataclass(frozen=True)
class _Use:
    """A request id as it is used in one request."""

    key: tuple[str, str, str]
    fingerprint: str


def _use_of(principal: str, request: Message) -> _Use | None:
    request_id: str = getattr(request, "request_id")  # noqa: B009 - mypy: not every message has one
    if not request_id:
        return None
    if not _REQUEST_ID.fullmatch(request_id):
        raise invalid("request_id", "must be 1 to 128 printable ASCII characters without spaces")
    fingerprint = hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()
    return _Use((principal, request.DESCRIPTOR.name, request_id), fingerprint)


def _resource_of(known: IdempotencyRow, use: _Use) -> str:
    if known.fingerprint != use.fingerprint:
        description = "was used for a different request: use a new one"
        raise invalid("request_id", description, "REQUEST_ID_REUSED")
    return known.resource


def _claim(session: Session, key: tuple[str, str, str], fingerprint: str) -> IdempotencyRow | None:
    """The row of a request id that nobody used; None when another transaction just did.

    Inserted before anything is created: a duplicate that runs at the same time waits here until
    the first has committed, and then finds what it made.
    """
    principal, method, request_id = key
    row = IdempotencyRow(
        principal=principal,
        method=method,
        request_id=request_id,
        fingerprint=fingerprint,
        resource="",
        create_time=datetime.now(UTC),
    )
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        return None
    return row


def forget_before(session: Session, time: datetime) -> None:
    """Drops request ids nobody retries any more."""
    session.execute(delete(IdempotencyRow).where(IdempotencyRow.create_time < time))
