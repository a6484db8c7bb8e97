"""`lorikeet top`: a live view of one inference service."""

import json
import time
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.live import Live

from lorikeet.cli.output import JsonOption, plain, stdout
from lorikeet.cli.settings import Settings
from lorikeet.cli.snapshots import Snapshot, take_snapshot
from lorikeet.cli.top_view import frame
from lorikeet.client import Client
from lorikeet.rpc.errors import UnavailableError

_PIPE_HEIGHT = 60


def top(
    context: typer.Context,
    interval: Annotated[
        float, typer.Option("--interval", "-i", min=0.1, help="Seconds between two readings.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Show one reading and end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Watches streams, tenants, adapters and memory, until Ctrl-C.

    Administrators see every tenant's requests, others those of their tenant. With --json, each
    reading is one line.
    """
    with Settings.of(context).overseer() as client:
        readings = _readings(client, interval)
        try:
            if as_json:
                _print_lines(readings, once)
            elif once or not stdout().is_terminal:
                _print_frames(readings, once)
            else:
                _show(readings)
        except KeyboardInterrupt:
            return


def _readings(client: Client, interval: float) -> Iterator[tuple[Snapshot, str]]:
    """A snapshot each interval, with why it is an old one if it is. The first must succeed."""
    snapshot = take_snapshot(client, None)
    yield snapshot, ""
    while True:
        time.sleep(interval)
        trouble = ""
        try:
            snapshot = take_snapshot(client, snapshot)
        except UnavailableError as error:
            trouble = f"{error.message}; trying again"
        yield snapshot, trouble


def _print_lines(readings: Iterator[tuple[Snapshot, str]], once: bool) -> None:
    for snapshot, trouble in readings:
        line = {
            "time": snapshot.time,
            "trouble": trouble,
            "tokens_per_second": round(snapshot.tokens_per_second, 1),
            "server": snapshot.server,
            "requests": snapshot.requests,
            "adapters": snapshot.adapters,
        }
        typer.echo(json.dumps(plain(line), ensure_ascii=False))
        if once:
            return


def _print_frames(readings: Iterator[tuple[Snapshot, str]], once: bool) -> None:
    console = stdout()
    for snapshot, trouble in readings:
        height = console.height if console.is_terminal else _PIPE_HEIGHT
        console.print(frame(snapshot, height, trouble))
        if once:
            return
        console.print()


def _show(readings: Iterator[tuple[Snapshot, str]]) -> None:
    console = stdout()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        for snapshot, trouble in readings:
            live.update(frame(snapshot, console.height, trouble), refresh=True)
