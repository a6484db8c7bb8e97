"""`lorikeet adapters policy`, `grant` and `revoke`: who may use an adapter."""

from typing import Annotated

import typer

from lorikeet.cli.adapter_names import AdapterArgument
from lorikeet.cli.output import EtagOption, JsonOption, print_result, short
from lorikeet.cli.settings import Settings
from lorikeet.operations.naming import adapter_name, tenant_name
from protos import registry_pb2 as pb

app = typer.Typer(no_args_is_help=True, help="The allow-list of an adapter.")

TenantsArgument = Annotated[list[str], typer.Argument(help="Tenants; '*' alone is every tenant.")]


@app.command()
def get(context: typer.Context, adapter: AdapterArgument, as_json: JsonOption = False) -> None:
    """Shows who may use an adapter."""
    settings = Settings.of(context)
    with settings.admin() as admin:
        _print(admin.get_access_policy(settings.adapter(adapter)), as_json)


@app.command("set")
def replace(
    context: typer.Context,
    adapter: AdapterArgument,
    tenants: Annotated[
        list[str] | None, typer.Argument(help="All of them; none is the owner alone.")
    ] = None,
    etag: EtagOption = "",
    as_json: JsonOption = False,
) -> None:
    """Replaces the allow-list.

    For example: lorikeet adapters policy set math globex initech
    """
    settings = Settings.of(context)
    allowed = [tenant if tenant == "*" else tenant_name(tenant) for tenant in tenants or ()]
    policy = pb.AccessPolicy(
        adapter=adapter_name(settings.adapter(adapter)), allowed_tenants=allowed, etag=etag
    )
    with settings.admin() as admin:
        _print(admin.set_access_policy(policy), as_json)


def grant(
    context: typer.Context,
    adapter: AdapterArgument,
    tenants: TenantsArgument,
    as_json: JsonOption = False,
) -> None:
    """Lets tenants use an adapter."""
    settings = Settings.of(context)
    with settings.admin() as admin:
        _print(admin.grant_access(settings.adapter(adapter), *tenants), as_json)


def revoke(
    context: typer.Context,
    adapter: AdapterArgument,
    tenants: TenantsArgument,
    as_json: JsonOption = False,
) -> None:
    """Takes tenants off an adapter's allow-list."""
    settings = Settings.of(context)
    with settings.admin() as admin:
        _print(admin.revoke_access(settings.adapter(adapter), *tenants), as_json)


def tenants_text(policy: pb.AccessPolicy) -> str:
    """The tenants of an allow-list, without its owner."""
    if list(policy.allowed_tenants) == ["*"]:
        return "every tenant"
    return ", ".join(tenant.removeprefix("tenants/") for tenant in policy.allowed_tenants)


def _print(policy: pb.AccessPolicy, as_json: bool) -> None:
    allowed = tenants_text(policy) or "nobody else"
    sentence = f"{short(policy.adapter)} may be used by its owner and {allowed}"
    print_result(policy, as_json, sentence)
