"""One RPC: see who calls, run an operation in one transaction, record a refusal."""

import logging
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from google.protobuf.message import Message
from sqlalchemy.orm import Session

from lorikeet.rpc.call_record import CallRecord, current_call
from lorikeet.rpc.errors import (
    LorikeetError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    permission_denied,
)
from registry_service.access import PUBLISH, Caller
from registry_service.authentication import Authenticator
from registry_service.caller_cache import CallerCache
from registry_service.config import Settings
from registry_service.credentials import Credential
from registry_service.failed_attempts import FailedAttempts
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

    @property
    def retention(self) -> timedelta:
        """How long what was deleted is kept."""
        return timedelta(days=self.settings.purge_days)

    def require_admin(self, resource: str) -> None:
        if not self.caller.is_admin:
            raise permission_denied("admin", resource)

    def require_auditor(self, tenant: str, resource: str) -> None:
        """For reading what only administrators write."""
        if not self.caller.audits(tenant):
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
        if self.caller.subject:
            detail["subject"] = self.caller.subject
        journal.record_change(self.session, self.origin, action, str(resource), **detail)

    def note(self, action: str, resource: object, /, **detail: Any) -> None:
        """Appends to the audit trail alone: an act that changed nothing, yet must be known."""
        if self.caller.subject:
            detail["subject"] = self.caller.subject
        journal.record_access(self.session, self.origin, action, str(resource), **detail)


Operation = Callable[[Call, Request], Response]


class CallRunner:
    """Runs operations for the servicers."""

    def __init__(
        self,
        database: Database,
        pages: PageTokens,
        settings: Settings,
        callers: CallerCache,
        authenticator: Authenticator,
    ) -> None:
        self.authenticator = authenticator
        self._failed_attempts = FailedAttempts()
        self._database = database
        self._pages = pages
        self._settings = settings
        self.callers = callers

    async def read(
        self, context: Any, operation: Operation[Request, Response], request: Request
    ) -> Response:
        """Runs an operation that writes nothing."""
        return await self._run(self._database.read, context, operation, request)

    async def write(
        self, context: Any, operation: Operation[Request, Response], request: Request
    ) -> Response:
        """Runs an operation whose writes are committed together, or not at all."""
        current_call().is_write = True
        return await self._run(self._database.write, context, operation, request)

    async def answer(
        self,
        context: Any,
        operation: str,
        request: Request,
        decide: Callable[[Caller, Request], Awaitable[Response]],
    ) -> Response:
        """Runs `decide` for a caller who may be known from memory; records refusals too."""
        origin = self._begin(context)
        return await self._recorded(
            origin, operation, self._decide(context, origin, request, decide)
        )

    async def _run(
        self,
        transact: Callable[[Callable[[Session], Response], float | None], Awaitable[Response]],
        context: Any,
        operation: Operation[Request, Response],
        request: Request,
    ) -> Response:
        origin, record = self._begin(context), current_call()

        async def run() -> Response:
            credential = await self.authenticator.credential_of(context)
            function = partial(self._operate, record, credential, origin, operation, request)
            return await transact(function, context.time_remaining())

        return await self._recorded(origin, operation.__name__, run())

    @staticmethod
    def _begin(context: Any) -> journal.Origin:
        origin = journal.Origin(journal.NOBODY, request_id_of(context), context.peer())
        current_call().request_id = origin.request_id
        return origin

    async def _recorded(
        self, origin: journal.Origin, operation: str, work: Awaitable[Response]
    ) -> Response:
        try:
            return await work
        except UnauthenticatedError as error:
            await self._note_attempt(_Refused(origin, error), operation)
            raise
        except _Refused as refused:
            if isinstance(refused.error, UnauthenticatedError):
                await self._note_attempt(refused, operation)
            else:
                # The refused transaction is rolled back, so the denial needs one of its own.
                await self._database.write(partial(refused.record, operation=operation))
            raise refused.error from None

    async def _decide(
        self,
        context: Any,
        origin: journal.Origin,
        request: Request,
        decide: Callable[[Caller, Request], Awaitable[Response]],
    ) -> Response:
        credential = await self.authenticator.credential_of(context)
        caller = self.callers.cached(credential) or await self.callers.get(credential)
        record = current_call()
        record.principal, record.tenant = str(caller.name), caller.tenant
        try:
            check_known(request)
            return await decide(caller, request)
        except (PermissionDeniedError, UnauthenticatedError) as error:
            refused_origin = replace(origin, principal=str(caller.name))
            raise _Refused(refused_origin, error, caller.subject) from error

    def _operate(
        self,
        record: CallRecord,
        credential: Credential,
        origin: journal.Origin,
        operation: Operation[Request, Response],
        request: Request,
        session: Session,
    ) -> Response:
        caller = principals.authenticate(session, credential)
        record.principal, record.tenant = str(caller.name), caller.tenant
        origin = replace(origin, principal=str(caller.name))
        try:
            check_known(request)
            call = Call(session, caller, origin, self._pages, self._settings)
            return operation(call, request)
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise _Refused(origin, error, caller.subject) from error

    async def _note_attempt(self, refused: "_Refused", operation: str) -> None:
        """Audits a bad credential, unless there were many: that it is bad is the answer anyway."""
        suppressed = self._failed_attempts.take()
        if suppressed is None:
            return
        write = partial(refused.record, operation=operation, suppressed=suppressed)
        try:
            await self._database.write(write)
        except LorikeetError as error:
            logger.warning("a failed authentication is not in the audit trail: %s", error.message)


def request_id_of(context: Any) -> str:
    """The caller's `x-request-id`, or a new one: what logs and audit events call this call."""
    for key, value in context.invocation_metadata() or ():
        if key == _REQUEST_ID_KEY and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return uuid.uuid4().hex


class _Refused(Exception):
    """Carries a refusal, and whom it refused, out of the transaction."""

    def __init__(
        self,
        origin: journal.Origin,
        error: PermissionDeniedError | UnauthenticatedError,
        subject: str = "",
    ) -> None:
        super().__init__(error.message)
        self.origin = origin
        self.error = error
        self._subject = {"subject": subject} if subject else {}

    def record(self, session: Session, **detail: Any) -> None:
        metadata = self.error.metadata
        journal.record_denial(
            session,
            self.origin,
            metadata.get("permission", self.error.reason),
            metadata.get("resource", ""),
            reason=self.error.reason,
            **self._subject,
            **detail,
        )
