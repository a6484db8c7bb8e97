"""`lorikeet adapters`."""

from pathlib import Path
from typing import Annotated

import typer

from lorikeet.admin import AdminClient
from lorikeet.cli.failures import CommandError
from lorikeet.cli.output import (
    JsonOption,
    byte_progress,
    format_bytes,
    format_time,
    print_json,
    print_table,
    stdout,
)
from lorikeet.cli.settings import Settings
from lorikeet.rpc.errors import AlreadyExistsError
from protos import registry_pb2 as pb

app = typer.Typer(no_args_is_help=True, help="Adapters, their versions and allow-lists.")

AdapterArgument = Annotated[str, typer.Argument(help="The adapter: `math` or `acme/math`.")]
TenantsArgument = Annotated[list[str], typer.Argument(help="Tenants.")]


@app.command()
def push(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="What PEFT's save_pretrained wrote.")],
    adapter: AdapterArgument,
    base_model: Annotated[
        str, typer.Option(help="For a new adapter; may be left out while there is only one.")
    ] = "",
    alias: Annotated[
        list[str] | None, typer.Option(help="Aliases to point at the new version.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Uploads a PEFT directory as the next version of an adapter, which is created if absent."""
    settings = Settings.of(context)
    name = settings.adapter(adapter)
    with settings.admin() as admin, byte_progress() as progress:
        _ensure_adapter(admin, name, base_model)
        task = progress.add_task(name, total=None)
        version = admin.push(
            directory,
            name,
            aliases=alias or (),
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if as_json:
        print_json(version)
    else:
        stdout().print(
            f"pushed {name}@{version.version}  {version.digest}"
            f"  rank {version.rank}  {format_bytes(version.size_bytes)}",
            markup=False,
        )


@app.command("list")
def list_adapters(context: typer.Context, as_json: JsonOption = False) -> None:
    """Lists a tenant's adapters."""
    settings = Settings.of(context)
    with settings.admin() as admin:
        adapters = admin.list_adapters(settings.required_tenant())
    if as_json:
        print_json(adapters)
        return
    rows = (
        (
            _short(adapter.name),
            f"@{adapter.latest_version}" if adapter.latest_version else "-",
            adapter.base_model.removeprefix("baseModels/"),
            _aliases(adapter),
            format_time(adapter.update_time),
        )
        for adapter in adapters
    )
    columns = ("adapter", "latest", "base model", "aliases", "updated (UTC)")
    print_table(columns, rows, "no adapters: `lorikeet adapters push DIRECTORY NAME` makes one")


@app.command()
def describe(context: typer.Context, adapter: AdapterArgument, as_json: JsonOption = False) -> None:
    """Shows an adapter, its versions and who may use it."""
    settings = Settings.of(context)
    name = settings.adapter(adapter)
    with settings.admin() as admin:
        described = admin.get_adapter(name)
        versions = admin.list_versions(name)
        policy = admin.get_access_policy(name)
    if as_json:
        print_json({"adapter": described, "versions": versions, "access_policy": policy})
        return
    console = stdout()
    console.print(f"{_short(described.name)}  on {described.base_model}", markup=False)
    console.print(f"allowed: owner, {_tenants(policy)}".rstrip(", "), markup=False)
    console.print(f"aliases: {_aliases(described) or 'none'}", markup=False)
    rows = (
        (
            f"@{version.version}",
            str(version.rank),
            format_bytes(version.size_bytes),
            version.digest,
            format_time(version.create_time),
        )
        for version in versions
    )
    print_table(("version", "rank", "size", "digest", "created (UTC)"), rows, "no versions")


@app.command()
def grant(
    context: typer.Context,
    adapter: AdapterArgument,
    tenants: TenantsArgument,
    as_json: JsonOption = False,
) -> None:
    """Lets tenants use an adapter."""
    settings = Settings.of(context)
    with settings.admin() as admin:
        _print_policy(admin.grant_access(settings.adapter(adapter), *tenants), as_json)


@app.command()
def revoke(
    context: typer.Context,
    adapter: AdapterArgument,
    tenants: TenantsArgument,
    as_json: JsonOption = False,
) -> None:
    """Takes tenants off an adapter's allow-list."""
    settings = Settings.of(context)
    with settings.admin() as admin:
        _print_policy(admin.revoke_access(settings.adapter(adapter), *tenants), as_json)


@app.command()
def alias(
    context: typer.Context,
    adapter: AdapterArgument,
    name: Annotated[str, typer.Argument(help="The alias, e.g. `stable`.")],
    version: Annotated[int, typer.Argument(help="The version it points at from now on.")],
    as_json: JsonOption = False,
) -> None:
    """Points an alias at a version; an older version is a rollback."""
    settings = Settings.of(context)
    with settings.admin() as admin:
        changed = admin.set_alias(settings.adapter(adapter), name, version)
    if as_json:
        print_json(changed)
    else:
        stdout().print(f"{adapter}@{name} is now version {changed.version}", markup=False)


@app.command()
def delete(
    context: typer.Context,
    adapter: AdapterArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Deletes an adapter: it no longer resolves. Its versions stay until purged."""
    settings = Settings.of(context)
    name = settings.adapter(adapter)
    if not yes:
        typer.confirm(f"Delete {name}?", abort=True)
    with settings.admin() as admin:
        deleted = admin.delete_adapter(name)
    if as_json:
        print_json(deleted)
    else:
        stdout().print(f"deleted {name}", markup=False)


def _ensure_adapter(admin: AdminClient, name: str, base_model: str) -> None:
    """Creates the adapter unless it is there."""
    base_model = base_model or _only_base_model(admin)
    try:
        admin.create_adapter(name, base_model)
    except AlreadyExistsError:
        return


def _only_base_model(admin: AdminClient) -> str:
    base_models = [model.name.removeprefix("baseModels/") for model in admin.list_base_models()]
    if len(base_models) == 1:
        return base_models[0]
    known = ", ".join(base_models) or "none is registered"
    raise CommandError(f"which base model is it for? Pass --base-model ({known})")


def _print_policy(policy: pb.AccessPolicy, as_json: bool) -> None:
    if as_json:
        print_json(policy)
    else:
        allowed = _tenants(policy) or "nobody else"
        stdout().print(
            f"{_short(policy.adapter)} may be used by its owner and {allowed}", markup=False
        )


def _tenants(policy: pb.AccessPolicy) -> str:
    return ", ".join(tenant.removeprefix("tenants/") for tenant in policy.allowed_tenants)


def _aliases(adapter: pb.Adapter) -> str:
    pairs = ((item.name.rpartition("/")[2], item.version) for item in adapter.aliases)
    return ", ".join(f"{name}=@{version}" for name, version in pairs)


def _short(name: str) -> str:
    return name.removeprefix("tenants/").replace("/adapters/", "/")
