"""`lorikeet adapters import` and `download`: versions from and to where files are."""

from pathlib import Path
from typing import Annotated

import typer

from lorikeet.cli.adapter_names import AdapterArgument
from lorikeet.cli.output import JsonOption, byte_progress, format_bytes, print_json, stdout
from lorikeet.cli.settings import Settings
from lorikeet.cli.versions import VersionArgument, read_profile
from protos import registry_pb2 as pb


def import_(
    context: typer.Context,
    adapter: AdapterArgument,
    prefix: Annotated[str, typer.Argument(help="Below imports/<tenant>/ in the registry's store.")],
    alias: Annotated[
        list[str] | None, typer.Option(help="Aliases to point at the new version.")
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(help="JSON file of the version's own profile.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="A label, key=value.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Makes a version of files that lie in the registry's own bucket or data directory already.

    The adapter's tenant reaches what lies below `imports/<tenant>/` there, and nothing else. The
    files are copied and validated: they may be removed afterwards.

    Example:

      aws s3 cp --recursive out/ s3://artifacts/imports/acme/math/2026-11-24/

      lorikeet adapters import acme/math math/2026-11-24 --alias candidate
    """
    settings = Settings.of(context)
    name = settings.adapter(adapter)
    with settings.admin() as admin:
        version = admin.import_adapter(
            name,
            prefix,
            aliases=alias or (),
            profile=read_profile(profile),
            labels=labels_of(label or []),
        )
    _print("imported", name, version, as_json)


def download(
    context: typer.Context,
    version: VersionArgument,
    directory: Annotated[Path, typer.Argument(help="Where to write the files; created.")],
    as_json: JsonOption = False,
) -> None:
    """Writes the files of a version into a directory; each appears once its digest was checked.

    Example:

      lorikeet adapters download acme/math@3 math-3/
    """
    settings = Settings.of(context)
    name = settings.adapter(version)
    with settings.admin() as admin, byte_progress() as progress:
        task = progress.add_task(name, total=None)
        found = admin.download(
            name,
            directory,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    _print("downloaded", name.partition("@")[0], found, as_json)


def labels_of(pairs: list[str]) -> dict[str, str]:
    """`["team=x"]` → `{"team": "x"}`."""
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is not key=value")
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


def _print(done: str, name: str, version: pb.AdapterVersion, as_json: bool) -> None:
    if as_json:
        print_json(version)
        return
    size = format_bytes(version.size_bytes)
    stdout().print(f"{done} {name}@{version.version}  {version.digest}  {size}", markup=False)
