"""`python -m registry_service.fsck`: what `lorikeet registry fsck` runs."""

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta

from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from lorikeet.rpc.errors import LorikeetError
from registry_service.bootstrap import StartError, open_database, starting
from registry_service.config import Settings, load_settings
from registry_service.fsck.checks import Checker
from registry_service.fsck.findings import Finding
from registry_service.repository import inventory
from registry_service.secret_files import SecretFilesError
from registry_service.stores import open_store

_START_ERRORS = (SecretFilesError, SettingsError, StartError, ValidationError)


def main(arguments: Sequence[str]) -> int:
    """Exit status 0: all is well; 1: something is wrong; 2: it could not be checked."""
    logging.basicConfig(level=logging.ERROR)
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    own, rest = parser.parse_known_args(arguments)
    try:
        findings = _check(load_settings(rest), quick=own.quick)
    except (*_START_ERRORS, LorikeetError, SQLAlchemyError) as error:
        print(f"fsck: {error}", file=sys.stderr)
        return 2
    (_print_json if own.json else _print_table)(findings)
    return 1 if findings else 0


def _check(settings: Settings, *, quick: bool) -> list[Finding]:
    if settings.database_url is None and not (settings.data_dir / "registry.db").exists():
        raise StartError(f"there is no registry in {settings.data_dir}")
    store = open_store(settings)
    database = open_database(settings)
    grace = timedelta(hours=settings.garbage_grace_hours)
    try:
        with starting(), Session(database.engine, expire_on_commit=False) as session:
            checker = Checker(session, store, quick=quick, grace=grace)
            return list(_run(checker, inventory.counts(session)))
    finally:
        database.close()
        store.close()


def _run(checker: Checker, counts: tuple[int, int, int]) -> Iterator[Finding]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        steps = (checker.versions, checker.chunks, checker.blobs)
        for name, step, count in zip(("versions", "pieces", "blobs"), steps, counts, strict=True):
            task = progress.add_task(name, total=count)
            yield from step(lambda task=task: progress.advance(task))  # type: ignore[misc]
        task = progress.add_task("objects", total=None)
        yield from checker.strays()
        progress.update(task, total=1, completed=1)


def _print_json(findings: Sequence[Finding]) -> None:
    described = [
        {
            "problem": str(finding.problem),
            "resource": finding.resource,
            "detail": finding.detail,
            "advice": finding.advice,
        }
        for finding in findings
    ]
    print(json.dumps({"findings": described}, indent=2))


def _print_table(findings: Sequence[Finding]) -> None:
    console = Console(highlight=False)
    if not findings:
        console.print("nothing is wrong")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("problem", "resource", "detail"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        table.add_row(str(finding.problem), finding.resource, finding.detail)
    console.print(table)
    for problem, advice in sorted({(str(f.problem), f.advice) for f in findings}):
        console.print(f"\n{problem}: {advice}", markup=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
