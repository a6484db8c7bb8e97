"""`lorikeet registry`: for whoever runs the registry, on the machine it runs on."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from lorikeet.cli.output import JsonOption

app = typer.Typer(no_args_is_help=True, help="Care for a registry's database and store.")


@app.command()
def fsck(
    data_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="LORIKEET_REGISTRY_DATA_DIR", help="The registry's --data-dir.", show_envvar=True
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Existence and size only: nothing is read.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compares every version, upload and blob in the database with the objects in the store.

    It reads the registry's own settings (LORIKEET_REGISTRY_*), talks to its database and store
    directly, and changes neither; the registry may be running. Exit status 0: nothing is wrong;
    1: something is, and the output says what to do; 2: it could not be checked.

    Examples:

      lorikeet registry fsck --data-dir .lorikeet/registry

      LORIKEET_REGISTRY_DATABASE_URL=… LORIKEET_REGISTRY_S3_BUCKET=… \\
      lorikeet registry fsck --data-dir /var/lib/lorikeet --quick --json
    """
    arguments = [*(("--data-dir", str(data_dir)) if data_dir else ())]
    arguments += [*(("--quick",) if quick else ()), *(("--json",) if as_json else ())]
    # A process of its own: clients do without the service's modules.
    command = [sys.executable, "-m", "registry_service.fsck", *arguments]
    raise typer.Exit(subprocess.run(command, check=False).returncode)
