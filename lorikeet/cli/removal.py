"""`lorikeet adapters delete`, `undelete` and `purge`."""

import typer

from lorikeet.cli.adapter_names import AdapterArgument
from lorikeet.cli.output import (
    EtagOption,
    JsonOption,
    YesOption,
    confirm,
    format_time,
    print_result,
    stdout,
)
from lorikeet.cli.settings import Settings


def delete(
    context: typer.Context,
    adapter: AdapterArgument,
    yes: YesOption = False,
    etag: EtagOption = "",
    as_json: JsonOption = False,
) -> None:
    """Deletes an adapter: it no longer resolves, and is forgotten some time later."""
    settings = Settings.of(context)
    name = settings.adapter(adapter)
    confirm(f"Delete {name}?", yes=yes)
    with settings.admin() as admin:
        deleted = admin.delete_adapter(name, etag=etag)
    until = format_time(deleted.purge_time)
    undo = f"until {until} UTC `lorikeet adapters undelete {name}` brings it back"
    print_result(deleted, as_json, f"deleted {name}; {undo}")


def undelete(
    context: typer.Context,
    adapter: AdapterArgument,
    etag: EtagOption = "",
    as_json: JsonOption = False,
) -> None:
    """Brings a deleted adapter back."""
    settings = Settings.of(context)
    name = settings.adapter(adapter)
    with settings.admin() as admin:
        print_result(admin.undelete_adapter(name, etag=etag), as_json, f"{name} is back")


def purge(
    context: typer.Context,
    adapter: AdapterArgument,
    yes: YesOption = False,
    etag: EtagOption = "",
) -> None:
    """Forgets a deleted adapter and its versions for good; its name is free again."""
    settings = Settings.of(context)
    name = settings.adapter(adapter)
    confirm(f"Purge {name} with all its versions? Nothing brings them back.", yes=yes)
    with settings.admin() as admin:
        admin.purge_adapter(name, etag=etag)
    stdout().print(f"purged {name}", markup=False)
