"""Score base and adapters through the gRPC service: ``python -m examples.demo.evaluate``.

Without addresses it starts a registry and an inference service for the occasion. It ends with exit
code 1 when a bar is missed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from examples.demo.chat_format import Message
from examples.demo.scoring import BASE, ROWS, Scores, jobs, measure, missed_bars
from examples.demo.setup import demo_stack, register_demo
from examples.demo.tasks import TASKS
from lorikeet import AsyncAdminClient, AsyncClient

# Longer than any right answer; an answer that is cut off here is wrong anyway.
_MAX_TOKENS: Final = 80


@dataclass(frozen=True)
class Running:
    """The addresses and the credentials file of services that run already."""

    inference: str
    registry: str
    credentials: Path


@asynccontextmanager
async def demo_client(running: Running | None) -> AsyncIterator[AsyncClient]:
    """Connect as the tenant that owns the adapters, after registering whatever is missing."""
    if running is None:
        async with demo_stack() as stack:
            async with stack.async_admin() as admin:
                tenants = await register_demo(admin)
            async with stack.async_client(tenants.owner) as client:
                yield client
        return
    keys = json.loads(running.credentials.read_text())
    async with AsyncAdminClient(running.registry, keys["admin"]) as admin:
        tenants = await register_demo(admin)
    async with AsyncClient(running.inference, tenants.owner) as client:
        yield client


async def evaluate(running: Running | None, limit: int | None, console: Console) -> Scores:
    """Put every question to the service, and count the right answers under a progress bar."""
    todo = jobs(limit)
    columns = (TextColumn("exact match"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with demo_client(running) as client:

        async def ask(messages: Sequence[Message], adapter: str) -> str:
            completion = await client.chat(
                messages, adapter, max_tokens=_MAX_TOKENS, temperature=0.0
            )
            return completion.text

        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("exact match", total=len(todo))
            return await measure(ask, todo, lambda: progress.advance(bar))


def score_table(scores: Scores) -> Table:
    """Lay the scores out, a row per adapter and a column per held-out set."""
    table = Table("adapter", *TASKS, title="Exact match on the held-out sets")
    for adapter in ROWS:
        cells = [scores[adapter, task] for task in TASKS]
        shown = [f"{cell.share:.1%} ({cell.correct}/{cell.total})" for cell in cells]
        table.add_row(adapter or "base", *shown)
    return table


def as_json(scores: Scores, missed: Sequence[str]) -> Mapping[str, Any]:
    """Give the same as plain data, for scripts."""
    return {
        "exact_match": {
            adapter or "base": {task: scores[adapter, task].share for task in TASKS}
            for adapter in ROWS
        },
        "items_per_set": {task: scores[BASE, task].total for task in TASKS},
        "missed_bars": list(missed),
    }


def _running(
    inference: str | None, registry: str | None, credentials: Path | None
) -> Running | None:
    if inference and registry and credentials:
        return Running(inference, registry, credentials)
    if inference or registry or credentials:
        raise typer.BadParameter("--inference, --registry and --credentials go together")
    return None


def main(
    inference: Annotated[str | None, typer.Option(help="HOST:PORT of a running service.")] = None,
    registry: Annotated[str | None, typer.Option(help="HOST:PORT of its registry.")] = None,
    credentials: Annotated[
        Path | None, typer.Option(help="The registry's file of first keys.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Items per set; all if left out.")
    ] = None,
    as_data: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure exact match of the base and every adapter on every held-out set."""
    console = Console(stderr=as_data)
    scores = asyncio.run(evaluate(_running(inference, registry, credentials), limit, console))
    missed = missed_bars(scores)
    if as_data:
        print(json.dumps(as_json(scores, missed), indent=2))
    else:
        console.print(score_table(scores))
    for line in missed:
        console.print(f"[red]missed:[/red] {line}")
    if missed:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
