"""Answers written down: a line each, as JSON or CSV."""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path

from lorikeet.cli.comparison.answer import Answer
from lorikeet.cli.failures import CommandError

_COLUMNS = tuple(field.name for field in fields(Answer))


@contextmanager
def answer_writer(path: Path | None) -> Iterator[Callable[[Answer], None]]:
    """Writes each answer at once, so that what is there stays if the command is stopped.

    CommandError for a name that is neither .jsonl nor .csv, and for a file that cannot be written.
    """
    if path is None:
        yield lambda _: None
        return
    if path.suffix not in (".jsonl", ".csv"):
        raise CommandError(f"--output {path}: the name must end in .jsonl or .csv")
    try:
        file = path.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from error
    with file:
        rows = csv.DictWriter(file, _COLUMNS)
        if path.suffix == ".csv":
            rows.writeheader()

        def write(answer: Answer) -> None:
            record = asdict(answer)
            if path.suffix == ".csv":
                rows.writerow(record)
            else:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
            file.flush()

        yield write
