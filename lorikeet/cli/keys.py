"""`lorikeet keys`."""

import contextlib
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from lorikeet.cli.output import JsonOption, format_time, print_json, print_table, stdout
from lorikeet.cli.settings import Settings
from lorikeet.operations.access import grant
from lorikeet.rpc.errors import AlreadyExistsError

app = typer.Typer(no_args_is_help=True, help="API keys.")


@app.command("create")
def create_key(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(help="The tenant the key calls for.")],
    principal: Annotated[str, typer.Option(help="Who holds it; created if absent.")] = "service",
    publish: Annotated[
        bool, typer.Option(help="Whether a principal made now may upload and grant adapters.")
    ] = False,
    expires_in_days: Annotated[
        float | None, typer.Option(min=0.0, help="Days until it stops working; by default never.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Creates an API key and prints its secret, which cannot be read again."""
    expire_time = None
    if expires_in_days is not None:
        expire_time = datetime.now(UTC) + timedelta(days=expires_in_days)
    grants = [grant("adapters.use", tenant)]
    if publish:
        grants.append(grant("adapters.publish", tenant))
    with Settings.of(context).admin() as admin:
        with contextlib.suppress(AlreadyExistsError):
            admin.create_principal(tenant, principal, grants=grants)
        created = admin.create_api_key(f"{tenant}/{principal}", expire_time=expire_time)
    if as_json:
        print_json(created)
    else:
        stdout().print(f"export LORIKEET_API_KEY={created.secret}", markup=False, soft_wrap=True)


@app.command("list")
def list_keys(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(help="Whose keys.")],
    as_json: JsonOption = False,
) -> None:
    """Lists the API keys of a tenant, without their secrets."""
    with Settings.of(context).admin() as admin:
        keys = admin.list_api_keys(tenant)
    if as_json:
        print_json(keys)
        return
    rows = (
        (
            key.name.removeprefix("tenants/").replace("/apiKeys/", "/"),
            key.principal.rpartition("/")[2],
            format_time(key.create_time),
            format_time(key.expire_time) if key.HasField("expire_time") else "never",
        )
        for key in keys
    )
    print_table(("key", "principal", "created (UTC)", "expires (UTC)"), rows, "no keys")


@app.command("delete")
def delete_key(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="TENANT/KEY, as `lorikeet keys list` shows it.")],
) -> None:
    """Revokes an API key at once."""
    with Settings.of(context).admin() as admin:
        admin.delete_api_key(key)
    stdout().print(f"deleted {key}", markup=False)
