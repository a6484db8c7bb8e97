"""`lorikeet tenants`."""

import re
from typing import Annotated

import typer

from lorikeet.cli.failures import CommandError
from lorikeet.cli.output import (
    EtagOption,
    JsonOption,
    YesOption,
    confirm,
    format_bytes,
    format_time,
    print_json,
    print_result,
    print_table,
    stdout,
)
from lorikeet.cli.settings import Settings
from lorikeet.operations.tenants import QuotaName
from protos import registry_pb2 as pb

app = typer.Typer(no_args_is_help=True, help="Tenants, their quotas and what they use.")

TenantArgument = Annotated[str, typer.Argument(help="Its id: lower-case letters, digits, '.-_'.")]
DisplayNameOption = Annotated[str | None, typer.Option(help="Its name for people.")]
_LIMIT_HELP = "A number, or `default` for the registry's."
BytesOption = Annotated[
    str | None, typer.Option(help="Bytes stored and being uploaded: 500GiB, or `default`.")
]
AdaptersOption = Annotated[str | None, typer.Option(help=f"Adapters. {_LIMIT_HELP}")]
VersionsOption = Annotated[str | None, typer.Option(help=f"Versions of each. {_LIMIT_HELP}")]
RankOption = Annotated[str | None, typer.Option(help=f"Rank of a module. {_LIMIT_HELP}")]

_UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_LIMIT = re.compile(r"(\d{1,15})\s*(KiB|MiB|GiB|TiB|)")


@app.command()
def create(
    context: typer.Context,
    tenant: TenantArgument,
    display_name: DisplayNameOption = None,
    max_bytes: BytesOption = None,
    max_adapters: AdaptersOption = None,
    max_versions: VersionsOption = None,
    max_rank: RankOption = None,
    as_json: JsonOption = False,
) -> None:
    """Creates a tenant; `lorikeet keys create` then gives it a key.

    For example: lorikeet tenants create acme --max-bytes 500GiB --max-adapters 1000
    """
    quota = _quota(max_bytes, max_adapters, max_versions, max_rank)
    with Settings.of(context).admin() as admin:
        created = admin.create_tenant(tenant, display_name=display_name or "", quota=quota)
    print_result(created, as_json, f"created {created.name}")


@app.command("list")
def list_tenants(context: typer.Context, as_json: JsonOption = False) -> None:
    """Lists the tenants."""
    with Settings.of(context).admin() as admin:
        tenants = admin.list_tenants()
    if as_json:
        print_json(tenants)
        return
    rows = (
        (
            tenant.name.removeprefix("tenants/"),
            tenant.display_name,
            _own_limits(tenant.quota),
            format_time(tenant.create_time),
        )
        for tenant in tenants
    )
    print_table(("tenant", "display name", "own limits", "created (UTC)"), rows, "no tenants")


@app.command()
def show(context: typer.Context, tenant: TenantArgument, as_json: JsonOption = False) -> None:
    """Shows a tenant, its quota and what it uses of it."""
    with Settings.of(context).admin() as admin:
        shown = admin.get_tenant(tenant)
    if as_json:
        print_json(shown)
        return
    name = f"{shown.name.removeprefix('tenants/')}  {shown.display_name}".rstrip()
    stdout().print(f"{name}  etag {shown.etag}", markup=False)
    usage, quota = shown.usage, shown.quota
    rows = (
        ("bytes", format_bytes(usage.bytes), _limit(quota, "max_bytes")),
        ("adapters", str(usage.adapters), _limit(quota, "max_adapters")),
        ("versions", str(usage.versions), f"{_limit(quota, 'max_versions')} of one adapter"),
        ("open uploads", str(usage.open_uploads), ""),
        ("rank of a module", "", _limit(quota, "max_rank")),
    )
    print_table(("", "used", "limit"), rows, "")


@app.command()
def update(
    context: typer.Context,
    tenant: TenantArgument,
    display_name: DisplayNameOption = None,
    max_bytes: BytesOption = None,
    max_adapters: AdaptersOption = None,
    max_versions: VersionsOption = None,
    max_rank: RankOption = None,
    etag: EtagOption = "",
    as_json: JsonOption = False,
) -> None:
    """Changes a tenant's name or limits; what is not given stays.

    For example: lorikeet tenants update acme --max-bytes 1TiB --max-rank default
    """
    quota = _quota(max_bytes, max_adapters, max_versions, max_rank)
    with Settings.of(context).admin() as admin:
        updated = admin.update_tenant(tenant, display_name=display_name, quota=quota, etag=etag)
    limits = _own_limits(updated.quota) or "the registry's"
    print_result(updated, as_json, f"updated {updated.name}; its limits: {limits}")


@app.command()
def delete(context: typer.Context, tenant: TenantArgument, yes: YesOption = False) -> None:
    """Deletes a tenant that owns no adapters, with its principals and keys."""
    confirm(f"Delete tenant {tenant} with its principals and keys?", yes=yes)
    with Settings.of(context).admin() as admin:
        admin.delete_tenant(tenant)
    stdout().print(f"deleted tenants/{tenant}", markup=False)


def _quota(
    max_bytes: str | None, max_adapters: str | None, max_versions: str | None, max_rank: str | None
) -> dict[QuotaName, int | None]:
    given: dict[QuotaName, str | None] = {
        "max_bytes": max_bytes,
        "max_adapters": max_adapters,
        "max_versions": max_versions,
        "max_rank": max_rank,
    }
    return {name: _parsed(name, text) for name, text in given.items() if text is not None}


def _parsed(name: QuotaName, text: str) -> int | None:
    if text == "default":
        return None
    match = _LIMIT.fullmatch(text)
    if match is None or (match[2] and name != "max_bytes"):
        raise CommandError(f"{name}: {text!r} is not a limit: give a number or `default`")
    return int(match[1]) * _UNITS[match[2]]


def _own_limits(quota: pb.TenantQuota) -> str:
    return ", ".join(f"{f.name} {_limit(quota, f.name)}" for f, _ in quota.ListFields())


def _limit(quota: pb.TenantQuota, name: str) -> str:
    if not quota.HasField(name):
        return "default"
    value = getattr(quota, name)
    return format_bytes(value) if name == "max_bytes" else str(value)
