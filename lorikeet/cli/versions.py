"""`lorikeet adapters versions`."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.json_format import ParseDict, ParseError

from lorikeet.cli.adapter_names import AdapterArgument
from lorikeet.cli.failures import CommandError
from lorikeet.cli.output import (
    JsonOption,
    YesOption,
    confirm,
    format_bytes,
    format_time,
    print_json,
    print_result,
    print_table,
    short,
)
from lorikeet.cli.settings import Settings
from protos import registry_pb2 as pb

app = typer.Typer(no_args_is_help=True, help="Versions of an adapter.")

VersionArgument = Annotated[str, typer.Argument(help="The version: `math@3` or `acme/math@3`.")]

_STATES = {
    pb.VERSION_STATE_READY: "ready",
    pb.VERSION_STATE_DELETED: "deleted",
    pb.VERSION_STATE_PURGED: "purged",
}


@app.command("list")
def list_versions(
    context: typer.Context,
    adapter: AdapterArgument,
    deleted: Annotated[bool, typer.Option("--deleted", help="Deleted and purged too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Lists the versions of an adapter, newest first."""
    settings = Settings.of(context)
    with settings.admin() as admin:
        versions = admin.list_versions(settings.adapter(adapter), show_deleted=deleted)
    if as_json:
        print_json(versions)
    else:
        print_versions(versions)


@app.command()
def show(context: typer.Context, version: VersionArgument, as_json: JsonOption = False) -> None:
    """Shows a version with its files."""
    settings = Settings.of(context)
    with settings.admin() as admin:
        shown = admin.get_version(settings.adapter(version))
    if as_json:
        print_json(shown)
        return
    facts = [
        ("version", short(shown.name)),
        ("state", _STATES.get(shown.state, "unknown")),
        ("digest", shown.digest),
        ("on", f"{shown.base_model} at {shown.base_model_revision}"),
        ("rank", f"{shown.rank} of {', '.join(shown.target_modules)}"),
        ("labels", labels_text(shown.labels)),
        ("profile", ", ".join(field.name for field, _ in shown.profile.ListFields())),
        ("made by", f"{short(shown.created_by)} at {format_time(shown.create_time)} UTC"),
    ]
    print_table(("", ""), [fact for fact in facts if fact[1]], "")
    files = ((f.file_name, format_bytes(f.size_bytes), f.sha256) for f in shown.files)
    print_table(("file", "size", "sha256"), files, "")


@app.command()
def delete(
    context: typer.Context,
    version: VersionArgument,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Deletes a version that no alias points at; `latest` falls back by itself."""
    settings = Settings.of(context)
    name = settings.adapter(version)
    confirm(f"Delete {name}?", yes=yes)
    with settings.admin() as admin:
        deleted = admin.delete_version(name)
    until = format_time(deleted.purge_time)
    undo = f"until {until} UTC `lorikeet adapters versions undelete {name}` brings it back"
    print_result(deleted, as_json, f"deleted {name}; {undo}")


@app.command()
def undelete(context: typer.Context, version: VersionArgument, as_json: JsonOption = False) -> None:
    """Brings a deleted version back."""
    settings = Settings.of(context)
    name = settings.adapter(version)
    with settings.admin() as admin:
        print_result(admin.undelete_version(name), as_json, f"{name} is back")


@app.command()
def purge(
    context: typer.Context,
    version: VersionArgument,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Gives up the bytes of a deleted version; it stays listed, so numbers stay dense."""
    settings = Settings.of(context)
    name = settings.adapter(version)
    confirm(f"Purge {name}? Nothing brings its bytes back.", yes=yes)
    with settings.admin() as admin:
        print_result(admin.purge_version(name), as_json, f"purged {name}")


def print_versions(versions: Iterable[pb.AdapterVersion]) -> None:
    """One line each; of a deleted one, until when it can be brought back."""
    rows = (
        (
            f"@{version.version}",
            _state(version),
            str(version.rank),
            format_bytes(version.size_bytes),
            version.digest,
            labels_text(version.labels),
            format_time(version.create_time),
        )
        for version in versions
    )
    columns = ("version", "state", "rank", "size", "digest", "labels", "created (UTC)")
    print_table(columns, rows, "no versions")


def labels_text(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))


def read_profile(path: Path | None) -> pb.AdapterProfile | None:
    """The profile in a JSON file; CommandError says what is wrong with the file."""
    if path is None:
        return None
    try:
        return ParseDict(json.loads(path.read_text()), pb.AdapterProfile())
    except (ValueError, ParseError) as error:
        raise CommandError(f"{path} is not the JSON of a profile: {error}") from error


def _state(version: pb.AdapterVersion) -> str:
    state = _STATES.get(version.state, "unknown")
    if version.state != pb.VERSION_STATE_DELETED:
        return state
    return f"{state} until {format_time(version.purge_time)}"
