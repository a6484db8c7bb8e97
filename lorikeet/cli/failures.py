"""How commands fail: one line with the reason and what to do about it, exit code 1."""

from typing import Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from lorikeet.connection import InsecureTargetError
from lorikeet.process import ServiceFailedError
from lorikeet.rpc.errors import (
    DeadlineExceededError,
    LorikeetError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)
from lorikeet.rpc.tls import TlsFilesError

_ADVICE: dict[type[LorikeetError], str] = {
    UnauthenticatedError: "check --api-key or LORIKEET_API_KEY, or --tls-cert",
    PermissionDeniedError: "check the name, or ask its owner for `lorikeet adapters grant`",
    UnavailableError: "is the service running? `lorikeet serve` starts one",
    ResourceExhaustedError: "try again later, or give the service more memory",
    DeadlineExceededError: "try again, or look at the service's log",
}
_LIMIT_ADVICE = "`lorikeet tenants show` tells use and limits, `tenants update` changes them"
_LIMIT_REASONS = (
    "QUOTA_EXCEEDED",
    "TENANT_CONCURRENCY",
    "TENANT_REQUEST_RATE",
    "TENANT_TOKEN_RATE",
)


class CommandError(Exception):
    """A mistake in how a command was called; the message says what to do."""


EXPECTED = (LorikeetError, ServiceFailedError, InsecureTargetError, TlsFilesError, CommandError)


class ReportingGroup(TyperGroup):
    """The root command: errors that callers can cause end here, others keep their traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EXPECTED as error:
            report(error)
            raise typer.Exit(1) from error


def report(error: Exception) -> None:
    """Prints an error to stderr; every refused field of a request gets a line of its own."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print("error:", style="bold red", end=" ")
    console.print(describe(error), markup=False)
    if isinstance(error, LorikeetError):
        for violation in error.violations:
            console.print(f"  {violation.field}: {violation.description}", markup=False)
        for passed in error.quota_violations:
            console.print(f"  {passed.subject}: {passed.description}", markup=False)


def describe(error: Exception) -> str:
    """The message, its stable reason, and advice where there is some."""
    if not isinstance(error, LorikeetError):
        return str(error)
    advice = _LIMIT_ADVICE if error.reason in _LIMIT_REASONS else _ADVICE.get(type(error), "")
    if error.retry_after is not None:
        advice = f"try again in {max(error.retry_after, 0.1):.1f} s"
    return f"{error.message} [{error.reason}]" + (f" - {advice}" if advice else "")
