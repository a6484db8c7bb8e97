"""One RPC: check the key, run an operation in one transaction, record a denial."""

import logging
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from google.protobuf.message import Message
from sqlalchemy.orm import Session

from lorikeet.rpc.errors import (
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    permission_denied,
)
from lorikeet.rpc.server import bearer_token
from registry_service.access import PUBLISH, Caller
from registry_service.config import Settings
from registry_service.feed import ChangeFeed
from registry_service.pages import PageTokens
from registry_service.repository import journal, principals
from registry_service.repository.database import Database
from registry_service.requests import check_known

logger = logging.getLogger(__name__)

_REQUEST_ID_KEY = "x-request-id"
_REQUEST_ID = re.compile(r"[!-~]{1,128}")

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response")


@dataclass(frozen=True)
class Call:
    """What an operation works with: its transaction and the identity it acts for."""

    session: Session
    caller: Caller
    origin: journal.Origin
    pages: PageTokens
    settings: Settings

    def require_admin(self, resource: str) -> None:
        if not self.caller.is_admin:
            raise permission_denied("admin", resource)

    def require_publish(self, tenant: str, resource: str) -> None:
        if not self.caller.holds(PUBLISH, tenant):
            raise permission_denied("adapters.publish", resource)

    def absent(self, permission: str, resource: str) -> NotFoundError | PermissionDeniedError:
        """The answer for what is not there: only an admin learns that it is not."""
        if self.caller.is_admin:
            return NotFoundError(f"{resource} does not exist", metadata={"resource": resource})
        return permission_denied(permission, resource)

    def record(self, action: str, resource: object, /, **detail: Any) -> None:
        """Appends this write to the change feed and the audit trail.

        `before` and `after` are what it changed, as mappings; the rest of `detail` is free.
        """
        journal.record_change(self.session, self.origin, action, str(resource), **detail)


Operation = Callable[[Call, Request], Response]


class CallRunner:
    """Runs operations for the servicers."""

    def __init__(
        self, database: Database, pages: PageTokens, settings: Settings, feed: ChangeFeed
    ) -> None:
        self._database = database
        self._pages = pages
        self._settings = settings
        self._feed = feed

    async def read(
        self, context: Any, operation: Operation[Request, Response], request: Request
    ) -> Response:
        """Runs an operation that writes nothing."""
        run = self._prepare(context, operation, request)
        return await self._answer(self._database.read, run, operation, context.peer())

    async def write(
        self, context: Any, operation: Operation[Request, Response], request: Request
    ) -> Response:
        """Runs an operation whose writes are committed together, or not at all."""
        run = self._prepare(context, operation, request)
        response = await self._answer(self._database.write, run, operation, context.peer())
        self._feed.notify()
        return response

    def _prepare(
        self, context: Any, operation: Operation[Request, Response], request: Request
    ) -> Callable[[Session], Response]:
        api_key = bearer_token(context)
        request_id, peer = request_id_of(context), context.peer()

        def run(session: Session) -> Response:
            caller = principals.authenticate(session, api_key)
            origin = journal.Origin(str(caller.name), request_id, peer)
            try:
                check_known(request)
                call = Call(session, caller, origin, self._pages, self._settings)
                return operation(call, request)
            except PermissionDeniedError as denial:
                raise _Denied(origin, denial) from denial

        return run

    async def _answer(
        self,
        transact: Callable[[Callable[[Session], Response]], Awaitable[Response]],
        run: Callable[[Session], Response],
        operation: Operation[Request, Response],
        peer: str,
    ) -> Response:
        try:
            return await transact(run)
        except UnauthenticatedError:
            # Not audited: without a key nobody may make the database grow.
            logger.info("no valid credential for %s from %s", operation.__name__, peer)
            raise
        except _Denied as denied:
            # The refused transaction is rolled back, so the denial needs one of its own.
            await self._database.write(partial(denied.record, operation=operation.__name__))
            raise denied.error from None


def request_id_of(context: Any) -> str:
    """The caller's `x-request-id`, or a new one: what logs and audit events call this call."""
    for key, value in context.invocation_metadata() or ():
        if key == _REQUEST_ID_KEY and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return uuid.uuid4().hex


class _Denied(Exception):
    """Carries a refusal, and whom it refused, out of the transaction."""

    def __init__(self, origin: journal.Origin, error: PermissionDeniedError) -> None:
        super().__init__(error.message)
        self.origin = origin
        self.error = error

    def record(self, session: Session, operation: str) -> None:
        metadata = self.error.metadata
        logger.info("denied %s to %s: %s", operation, self.origin.principal, self.error.message)
        journal.record_denial(
            session,
            self.origin,
            metadata.get("permission", self.error.reason),
            metadata.get("resource", ""),
            operation=operation,
            reason=self.error.reason,
        )
