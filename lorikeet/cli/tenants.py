"""`lorikeet tenants`."""

from typing import Annotated

import typer

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
from lorikeet.cli.tenant_limits import (
    AdaptersOption,
    BytesOption,
    ConcurrencyOption,
    RankOption,
    RequestRateOption,
    TokenRateOption,
    VersionsOption,
    WeightOption,
    own_limits,
    quota_of,
    serving_of,
    shown_limit,
)

app = typer.Typer(no_args_is_help=True, help="Tenants, their limits and what they use.")

TenantArgument = Annotated[str, typer.Argument(help="Its id: lower-case letters, digits, '.-_'.")]
DisplayNameOption = Annotated[str | None, typer.Option(help="Its name for people.")]


@app.command()
def create(
    context: typer.Context,
    tenant: TenantArgument,
    display_name: DisplayNameOption = None,
    max_bytes: BytesOption = None,
    max_adapters: AdaptersOption = None,
    max_versions: VersionsOption = None,
    max_rank: RankOption = None,
    weight: WeightOption = None,
    max_concurrent_requests: ConcurrencyOption = None,
    max_requests_per_minute: RequestRateOption = None,
    max_tokens_per_minute: TokenRateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Creates a tenant; `lorikeet keys create` then gives it a key.

    For example: lorikeet tenants create acme --max-bytes 500GiB --max-adapters 1000
    """
    quota = quota_of(max_bytes, max_adapters, max_versions, max_rank)
    serving = serving_of(
        weight, max_concurrent_requests, max_requests_per_minute, max_tokens_per_minute
    )
    with Settings.of(context).admin() as admin:
        created = admin.create_tenant(
            tenant, display_name=display_name or "", quota=quota, serving=serving
        )
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
            own_limits(tenant),
            format_time(tenant.create_time),
        )
        for tenant in tenants
    )
    print_table(("tenant", "display name", "own limits", "created (UTC)"), rows, "no tenants")


@app.command()
def show(context: typer.Context, tenant: TenantArgument, as_json: JsonOption = False) -> None:
    """Shows a tenant, its limits and what it uses of them."""
    with Settings.of(context).admin() as admin:
        shown = admin.get_tenant(tenant)
    if as_json:
        print_json(shown)
        return
    name = f"{shown.name.removeprefix('tenants/')}  {shown.display_name}".rstrip()
    stdout().print(f"{name}  etag {shown.etag}", markup=False)
    usage, quota = shown.usage, shown.quota
    rows = (
        ("bytes", format_bytes(usage.bytes), shown_limit(quota, "max_bytes")),
        ("adapters", str(usage.adapters), shown_limit(quota, "max_adapters")),
        ("versions", str(usage.versions), f"{shown_limit(quota, 'max_versions')} of one adapter"),
        ("open uploads", str(usage.open_uploads), ""),
        ("rank of a module", "", shown_limit(quota, "max_rank")),
    )
    print_table(("", "used", "limit"), rows, "")
    serving = shown.serving
    granted = (
        ("weight", shown_limit(serving, "weight")),
        ("concurrent requests", shown_limit(serving, "max_concurrent_requests")),
        ("requests per minute", shown_limit(serving, "max_requests_per_minute")),
        ("tokens per minute", shown_limit(serving, "max_tokens_per_minute")),
    )
    print_table(("", "in each inference service"), granted, "")


@app.command()
def update(
    context: typer.Context,
    tenant: TenantArgument,
    display_name: DisplayNameOption = None,
    max_bytes: BytesOption = None,
    max_adapters: AdaptersOption = None,
    max_versions: VersionsOption = None,
    max_rank: RankOption = None,
    weight: WeightOption = None,
    max_concurrent_requests: ConcurrencyOption = None,
    max_requests_per_minute: RequestRateOption = None,
    max_tokens_per_minute: TokenRateOption = None,
    etag: EtagOption = "",
    as_json: JsonOption = False,
) -> None:
    """Changes a tenant's name or limits; what is not given stays.

    For example: lorikeet tenants update acme --max-bytes 1TiB --weight 3 --max-rank default
    """
    quota = quota_of(max_bytes, max_adapters, max_versions, max_rank)
    serving = serving_of(
        weight, max_concurrent_requests, max_requests_per_minute, max_tokens_per_minute
    )
    with Settings.of(context).admin() as admin:
        updated = admin.update_tenant(
            tenant, display_name=display_name, quota=quota, serving=serving, etag=etag
        )
    limits = own_limits(updated) or "the defaults"
    print_result(updated, as_json, f"updated {updated.name}; its limits: {limits}")


@app.command()
def delete(context: typer.Context, tenant: TenantArgument, yes: YesOption = False) -> None:
    """Deletes a tenant that owns no adapters, with its principals and keys."""
    confirm(f"Delete tenant {tenant} with its principals and keys?", yes=yes)
    with Settings.of(context).admin() as admin:
        admin.delete_tenant(tenant)
    stdout().print(f"deleted tenants/{tenant}", markup=False)
