"""`lorikeet adapters alias`."""

from typing import Annotated

import typer

from lorikeet.cli.adapter_names import AdapterArgument
from lorikeet.cli.output import EtagOption, JsonOption, print_result, stdout
from lorikeet.cli.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Aliases: names that point at versions.")

AliasArgument = Annotated[str, typer.Argument(help="The alias, e.g. `stable`.")]


@app.command("set")
def set_alias(
    context: typer.Context,
    adapter: AdapterArgument,
    alias: AliasArgument,
    version: Annotated[int, typer.Argument(help="The version it points at from now on.")],
    etag: EtagOption = "",
    as_json: JsonOption = False,
) -> None:
    """Points an alias at a version; an older version is a rollback.

    For example: lorikeet adapters alias set math stable 3
    """
    settings = Settings.of(context)
    with settings.admin() as admin:
        changed = admin.set_alias(settings.adapter(adapter), alias, version, adapter_etag=etag)
    print_result(changed, as_json, f"{adapter}@{alias} is now version {changed.version}")


@app.command("delete")
def delete_alias(
    context: typer.Context, adapter: AdapterArgument, alias: AliasArgument, etag: EtagOption = ""
) -> None:
    """Removes an alias; the version stays."""
    settings = Settings.of(context)
    with settings.admin() as admin:
        admin.delete_alias(settings.adapter(adapter), alias, adapter_etag=etag)
    stdout().print(f"{adapter}@{alias} is gone", markup=False)
