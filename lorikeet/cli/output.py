"""What commands print: tables for people, JSON for programs."""

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
EtagOption = Annotated[
    str, typer.Option("--etag", help="Refuse if it changed since this etag was read.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_PIPE_WIDTH = 200
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_INT64_TYPES = (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64)


def stdout() -> Console:
    """The console; in a pipe it is wide, so that no column is cut to fit a terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)


def print_json(value: Any) -> None:
    """Messages, dataclasses, and lists and mappings of them."""
    typer.echo(json.dumps(plain(value), indent=2, ensure_ascii=False))


def command() -> str:
    """How to call this command line from here, installed or not."""
    if shutil.which("lorikeet"):
        return "lorikeet"
    python, here = Path(sys.executable), Path.cwd()
    directory = python.parent.relative_to(here) if python.is_relative_to(here) else python.parent
    if (python.parent / "lorikeet").exists():
        return str(directory / "lorikeet")
    return f"{directory / python.name} -m lorikeet.cli"


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> None:
    """A table, or the sentence `empty` when it would have no rows."""
    table = make_table(columns, rows)
    stdout().print(table if table.row_count else empty, markup=False)


def make_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table without lines."""
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    table.show_header = any(columns)
    for row in rows:
        table.add_row(*row)
    return table


def byte_progress() -> Progress:
    """Bars of bytes, on stderr so that stdout stays the command's result."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def plain(value: Any) -> Any:
    """The JSON form. 64-bit numbers stay numbers, unlike in protobuf's own JSON."""
    if isinstance(value, Message):
        return _plain_message(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def format_bytes(count: float) -> str:
    """1536 → "1.5 KiB"."""
    for unit in _UNITS[:-1]:
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"


def format_time(time: Timestamp) -> str:
    """UTC to the second, or a dash for no time."""
    return time.ToDatetime().strftime("%Y-%m-%d %H:%M:%S") if time.seconds else "-"


def _plain_message(message: Message) -> dict[str, Any]:
    converted: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return _with_numbers(message.DESCRIPTOR, converted)


def _with_numbers(descriptor: Any, converted: dict[str, Any]) -> dict[str, Any]:
    """Turns the strings that MessageToDict makes of 64-bit integers back into numbers."""
    for field in descriptor.fields:
        value = converted.get(field.name)
        if value is None:
            continue
        if field.type in _INT64_TYPES:
            converted[field.name] = [*map(int, value)] if isinstance(value, list) else int(value)
        elif field.message_type and field.message_type.file.package.startswith("lorikeet"):
            for item in value if isinstance(value, list) else [value]:
                _with_numbers(field.message_type, item)
    return converted


def short(name: str) -> str:
    """`tenants/acme/adapters/math/versions/3` → `acme/math@3`; other names as they are."""
    shortened = name.removeprefix("tenants/").replace("/adapters/", "/").replace("/versions/", "@")
    return shortened.replace("/principals/", "/").replace("/aliases/", "@")


def print_result(message: Any, as_json: bool, sentence: str) -> None:
    """What a command that changed something says: the resource as JSON, or a sentence."""
    if as_json:
        print_json(message)
    else:
        stdout().print(sentence, markup=False, soft_wrap=True)


def confirm(question: str, *, yes: bool) -> None:
    """Asks unless `--yes` was given; anything but yes ends the command."""
    if not yes:
        typer.confirm(question, abort=True)
