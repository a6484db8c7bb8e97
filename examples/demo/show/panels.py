"""One prompt, every adapter at once: columns that fill as tokens arrive."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lorikeet import AsyncClient, Completion

BASE_TITLE = "base"
_MAX_TOKENS = 64
_PANEL_HEIGHT = 12
_REFRESH_PER_SECOND = 20


@dataclass
class Column:
    """The stream of one adapter; "" is the base model. Owned by the task that reads the stream."""

    adapter: str
    text: str = ""
    completion: Completion | None = None

    @property
    def title(self) -> str:
        return self.adapter or BASE_TITLE

    async def fill(self, client: AsyncClient, messages: Sequence[dict[str, str]]) -> None:
        """Streams the answer into `text`."""
        stream = client.chat_stream(messages, self.adapter, max_tokens=_MAX_TOKENS, temperature=0.0)
        async with stream:
            async for chunk in stream:
                self.text += chunk.text
        self.completion = stream.completion


@dataclass(frozen=True)
class Showcase:
    """A prompt and its columns; `expert` is the adapter that was trained for it."""

    messages: Sequence[dict[str, str]]
    columns: Sequence[Column]
    expert: str

    async def run(self, client: AsyncClient, console: Console) -> None:
        """Streams every column concurrently: live on a terminal, as a transcript elsewhere."""
        streams = asyncio.gather(*(column.fill(client, self.messages) for column in self.columns))
        if not console.is_terminal:
            await streams
            self._print_transcript(console)
            return
        console.print(self._question())
        with Live(self, console=console, refresh_per_second=_REFRESH_PER_SECOND):
            await streams

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table.grid(expand=True)
        for _ in self.columns:
            table.add_column(ratio=1)
        table.add_row(*(self._panel(column) for column in self.columns))
        yield table

    def _panel(self, column: Column) -> RenderableType:
        style = "bold green" if column.adapter == self.expert else "dim"
        tokens = len(column.completion.token_ids) if column.completion else None
        return Panel(
            Text(column.text, overflow="fold"),
            title=column.title,
            subtitle=f"{tokens} tokens" if tokens is not None else "…",
            border_style=style,
            height=_PANEL_HEIGHT,
        )

    def _question(self) -> RenderableType:
        lines = [Text(f"{turn['role']}: {turn['content']}", style="cyan") for turn in self.messages]
        return Group(Text(""), *lines)

    def _print_transcript(self, console: Console) -> None:
        console.print(self._question())
        table = Table.grid(padding=(0, 2))
        for column in self.columns:
            marker = "*" if column.adapter == self.expert else " "
            table.add_row(f"{marker} {column.title}", Text(column.text.strip(), overflow="fold"))
        console.print(table)


def columns_of(adapters: Sequence[str]) -> list[Column]:
    """The base model's column, then one per adapter."""
    return [Column(""), *map(Column, adapters)]
