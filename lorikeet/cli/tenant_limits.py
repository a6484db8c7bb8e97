"""Limits of a tenant on the command line: how they are given, and how they are shown."""

import re
from typing import Annotated

import typer

from lorikeet.cli.failures import CommandError
from lorikeet.cli.output import format_bytes
from lorikeet.operations.tenants import QuotaName, ServingName
from protos import registry_pb2 as pb

_LIMIT_HELP = "A number, or `default` for the registry's."
BytesOption = Annotated[
    str | None, typer.Option(help="Bytes stored and being uploaded: 500GiB, or `default`.")
]
AdaptersOption = Annotated[str | None, typer.Option(help=f"Adapters. {_LIMIT_HELP}")]
VersionsOption = Annotated[str | None, typer.Option(help=f"Versions of each. {_LIMIT_HELP}")]
RankOption = Annotated[str | None, typer.Option(help=f"Rank of a module. {_LIMIT_HELP}")]

_SERVING_HELP = "A number, or `default` for each inference service's."
WeightOption = Annotated[
    str | None,
    typer.Option(help="Share of a busy engine, relative to other tenants. A number, or `default`."),
]
ConcurrencyOption = Annotated[
    str | None, typer.Option(help=f"Requests waiting and running. {_SERVING_HELP}")
]
RequestRateOption = Annotated[str | None, typer.Option(help=f"Requests. {_SERVING_HELP}")]
TokenRateOption = Annotated[
    str | None, typer.Option(help=f"Tokens of prompts and completions. {_SERVING_HELP}")
]

_UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_LIMIT = re.compile(r"(\d{1,15})\s*(KiB|MiB|GiB|TiB|)")


def quota_of(
    max_bytes: str | None, max_adapters: str | None, max_versions: str | None, max_rank: str | None
) -> dict[QuotaName, int | None]:
    """What the options say of a quota; options that were not given are left out."""
    given: dict[QuotaName, str | None] = {
        "max_bytes": max_bytes,
        "max_adapters": max_adapters,
        "max_versions": max_versions,
        "max_rank": max_rank,
    }
    return {name: _limit(name, text) for name, text in given.items() if text is not None}


def serving_of(
    weight: str | None,
    max_concurrent_requests: str | None,
    max_requests_per_minute: str | None,
    max_tokens_per_minute: str | None,
) -> dict[ServingName, float | None]:
    """What the options say of serving; options that were not given are left out."""
    given: dict[ServingName, str | None] = {
        "max_concurrent_requests": max_concurrent_requests,
        "max_requests_per_minute": max_requests_per_minute,
        "max_tokens_per_minute": max_tokens_per_minute,
    }
    limits: dict[ServingName, float | None] = {
        name: _limit(name, text) for name, text in given.items() if text is not None
    }
    return limits if weight is None else {"weight": _weight(weight), **limits}


def own_limits(tenant: pb.Tenant) -> str:
    """What is set for the tenant itself, in one line."""
    return ", ".join(
        f"{field.name} {shown_limit(limits, field.name)}"
        for limits in (tenant.quota, tenant.serving)
        for field, _ in limits.ListFields()
    )


def shown_limit(limits: pb.TenantQuota | pb.ServingLimits, name: str) -> str:
    if not limits.HasField(name):
        return "default"
    value = getattr(limits, name)
    return format_bytes(value) if name == "max_bytes" else f"{value:.15g}"


def _limit(name: str, text: str) -> int | None:
    if text == "default":
        return None
    match = _LIMIT.fullmatch(text)
    if match is None or (match[2] and name != "max_bytes"):
        raise CommandError(f"{name}: {text!r} is not a limit: give a number or `default`")
    return int(match[1]) * _UNITS[match[2]]


def _weight(text: str) -> float | None:
    if text == "default":
        return None
    try:
        return float(text)
    except ValueError:
        message = f"weight: {text!r} is not a weight: give a number or `default`"
        raise CommandError(message) from None
