"""Typed errors and their gRPC form: one class per status code, details as google.rpc messages.

Services raise these; the interceptor makes rich statuses of them; the SDK makes errors again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import grpc
from google.protobuf import any_pb2, message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

ERROR_DOMAIN = "lorikeet"


@dataclass(frozen=True)
class FieldViolation:
    """One refused thing: `field` is a request field, a file, a tensor or a config key.

    `reason` is stable where there is one; the description is for people.
    """

    field: str
    description: str
    reason: str = ""


@dataclass(frozen=True)
class QuotaViolation:
    """A quota that a request would pass: `subject` is whose, the description names it."""

    subject: str
    description: str


class LorikeetError(Exception):
    """Base of every error a caller may see; `reason` is stable, the message is for people."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        retry_after: float | None = None,
        quota_violations: Sequence[QuotaViolation] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.code.name
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after = retry_after
        self.quota_violations = tuple(quota_violations)

    def to_status(self) -> grpc.Status:
        """The rich status: ErrorInfo always; BadRequest, QuotaFailure, RetryInfo as they apply."""
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        status.details.extend(_packed(detail) for detail in self._details())
        return rpc_status.to_status(status)

    def _details(self) -> list[message.Message]:
        info = error_details_pb2.ErrorInfo(
            reason=self.reason, domain=ERROR_DOMAIN, metadata=self.metadata
        )
        details: list[message.Message] = [info]
        if self.violations:
            bad_request = error_details_pb2.BadRequest()
            for violation in self.violations:
                bad_request.field_violations.add(
                    field=violation.field,
                    description=violation.description,
                    reason=violation.reason,
                )
            details.append(bad_request)
        if self.quota_violations:
            failure = error_details_pb2.QuotaFailure()
            for passed in self.quota_violations:
                failure.violations.add(subject=passed.subject, description=passed.description)
            details.append(failure)
        if self.retry_after is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromNanoseconds(int(self.retry_after * 1e9))
            details.append(retry)
        return details


class CancelledByPeerError(LorikeetError):
    code = grpc.StatusCode.CANCELLED


class InvalidArgumentError(LorikeetError):
    code = grpc.StatusCode.INVALID_ARGUMENT


class DeadlineExceededError(LorikeetError):
    code = grpc.StatusCode.DEADLINE_EXCEEDED


class NotFoundError(LorikeetError):
    code = grpc.StatusCode.NOT_FOUND


class AlreadyExistsError(LorikeetError):
    code = grpc.StatusCode.ALREADY_EXISTS


class PermissionDeniedError(LorikeetError):
    code = grpc.StatusCode.PERMISSION_DENIED


class UnauthenticatedError(LorikeetError):
    code = grpc.StatusCode.UNAUTHENTICATED


class ResourceExhaustedError(LorikeetError):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class FailedPreconditionError(LorikeetError):
    code = grpc.StatusCode.FAILED_PRECONDITION


class AbortedError(LorikeetError):
    code = grpc.StatusCode.ABORTED


class OutOfRangeError(LorikeetError):
    code = grpc.StatusCode.OUT_OF_RANGE


class UnimplementedError(LorikeetError):
    code = grpc.StatusCode.UNIMPLEMENTED


class InternalError(LorikeetError):
    code = grpc.StatusCode.INTERNAL


class UnavailableError(LorikeetError):
    code = grpc.StatusCode.UNAVAILABLE


class DataLossError(LorikeetError):
    code = grpc.StatusCode.DATA_LOSS


_BY_CODE = {cls.code: cls for cls in LorikeetError.__subclasses__()}


def permission_denied(permission: str, resource: str) -> PermissionDeniedError:
    """The one answer for forbidden and for absent, so that neither can be told from the other."""
    return PermissionDeniedError(
        f"permission '{permission}' denied on '{resource}' (or it might not exist)",
        reason="PERMISSION_DENIED",
        metadata={"permission": permission, "resource": resource},
    )


# grpc.aio's own words, as INTERNAL, when a connection breaks under a write; no server says this.
_LOST_WHILE_WRITING = "Internal error from Core"
# What gRPC's core says, with this code, of calls that reach a server while it stops. A call that
# its caller cancels has other words.
_STOPPED = (grpc.StatusCode.CANCELLED, "CANCELLED")


def from_rpc_error(error: grpc.RpcError) -> LorikeetError:
    """The typed error behind a failed call, with the details the server attached."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return UnavailableError(str(error))
    if error.details() == _LOST_WHILE_WRITING:
        return UnavailableError("the connection was lost while a request was being written")
    if (error.code(), error.details()) == _STOPPED:
        return UnavailableError("the server stopped before it took the call")
    cls = _BY_CODE.get(error.code(), LorikeetError)
    reason, metadata, violations, retry_after = "", {}, [], None
    quota_violations: list[QuotaViolation] = []
    for detail in _details_of(error):
        if isinstance(detail, error_details_pb2.ErrorInfo):
            reason, metadata = detail.reason, dict(detail.metadata)
        elif isinstance(detail, error_details_pb2.BadRequest):
            violations = [
                FieldViolation(v.field, v.description, v.reason) for v in detail.field_violations
            ]
        elif isinstance(detail, error_details_pb2.QuotaFailure):
            quota_violations = [QuotaViolation(v.subject, v.description) for v in detail.violations]
        elif isinstance(detail, error_details_pb2.RetryInfo):
            retry_after = detail.retry_delay.ToNanoseconds() / 1e9
    return cls(
        error.details() or error.code().name,
        reason=reason,
        metadata=metadata,
        violations=violations,
        retry_after=retry_after,
        quota_violations=quota_violations,
    )


_DETAIL_TYPES = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.QuotaFailure,
    error_details_pb2.RetryInfo,
)


def _details_of(error: Any) -> list[message.Message]:
    trailing: Any = error.trailing_metadata() or ()
    for key, value in trailing:
        if key == "grpc-status-details-bin":
            return [_unpacked(item) for item in status_pb2.Status.FromString(value).details]
    return []


def _packed(detail: message.Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def _unpacked(packed: any_pb2.Any) -> message.Message:
    for detail_type in _DETAIL_TYPES:
        if packed.Is(detail_type.DESCRIPTOR):
            detail: message.Message = detail_type()
            packed.Unpack(detail)
            return detail
    return packed
