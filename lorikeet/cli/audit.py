"""`lorikeet audit`."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict

from lorikeet.cli.failures import CommandError
from lorikeet.cli.output import JsonOption, format_time, print_json, print_table, short
from lorikeet.cli.settings import Settings
from lorikeet.operations.naming import adapter_name, principal_name
from protos import registry_pb2 as pb

_AGO = re.compile(r"(\d{1,6})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_MAX_SHOWN = 60


def audit(
    context: typer.Context,
    resource: Annotated[
        str, typer.Option(help="`acme/math`, or a prefix such as tenants/acme/.")
    ] = "",
    principal: Annotated[str, typer.Option(help="TENANT/PRINCIPAL, or `system`.")] = "",
    action: Annotated[str, typer.Option(help="adapters.create; adapters.* for all of them.")] = "",
    outcome: Annotated[str, typer.Option(help="`ok` or `denied`.")] = "",
    since: Annotated[str, typer.Option(help="30m, 12h, 7d ago, or an ISO time (UTC).")] = "",
    until: Annotated[str, typer.Option(help="Likewise; events before it.")] = "",
    request_id: Annotated[str, typer.Option(help="Of one call.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Lists what was done to the registry, by whom, and what was refused, newest first.

    For example: lorikeet audit --resource acme/math --outcome denied --since 7d
    """
    with Settings.of(context).admin() as admin:
        events = admin.list_audit_events(
            resource_prefix=_resource(resource),
            principal=principal_name(principal) if "/" in principal else principal,
            action=action,
            outcome=outcome,
            start_time=_time(since, "--since"),
            end_time=_time(until, "--until"),
            request_id=request_id,
            limit=limit,
        )
    if as_json:
        print_json(events)
        return
    columns = ("time (UTC)", "principal", "action", "resource", "outcome", "change")
    rows = (
        (
            format_time(event.time),
            short(event.principal),
            event.action,
            short(event.resource),
            event.outcome,
            change_text(event),
        )
        for event in events
    )
    print_table(columns, rows, "no events")


def change_text(event: pb.AuditEvent) -> str:
    """`field: before → after` of each changed field, then the details."""
    before, after = MessageToDict(event.before), MessageToDict(event.after)
    changes = [
        f"{key}: {_shown(before.get(key))} → {_shown(after.get(key))}"
        for key in sorted({*before, *after})
    ]
    details = [f"{key}={_shown(value)}" for key, value in MessageToDict(event.detail).items()]
    return "; ".join(changes + details)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(_whole(value), ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _whole(value: Any) -> Any:
    """Whole numbers as such: a Struct has doubles only."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _resource(text: str) -> str:
    """A short adapter name in full; anything else is a prefix already."""
    parts = text.split("/")
    is_short = (
        len(parts) == 2 and all(parts) and parts[0] not in ("tenants", "baseModels", "uploads")
    )
    return adapter_name(text) if is_short else text


def _time(text: str, option: str) -> datetime | None:
    if not text:
        return None
    if ago := _AGO.fullmatch(text):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"{option}: {text!r} is neither 7d nor an ISO time") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)
