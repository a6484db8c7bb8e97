"""How answers look on a screen: columns of text, and a table of figures."""

import statistics
from collections.abc import Iterable, Sequence

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lorikeet.cli.comparison.answer import Answer, RunningAnswer
from lorikeet.cli.output import make_table, short

_MIN_COLUMN = 26
_COLUMNS = ("adapter", "version", "first token", "tokens", "tokens/s", "end")
_TOTAL_COLUMNS = (
    "adapter",
    "answers",
    "first token (median)",
    "tokens",
    "tokens/s (median)",
    "errors",
)


class AnswersView:
    """The answers to one prompt, side by side where the console is wide enough; may still run."""

    def __init__(self, running: Sequence[RunningAnswer]) -> None:
        self._running = running

    def __rich_console__(self, console: Console, _options: object) -> Iterable[RenderableType]:
        panels = [_panel(each) for each in self._running]
        if not panels:
            return
        if console.width // len(panels) < _MIN_COLUMN:
            yield Group(*panels)
            return
        grid = Table.grid(expand=True)
        for _ in panels:
            grid.add_column(ratio=1)
        grid.add_row(*panels)
        yield grid


def figures(answers: Iterable[Answer]) -> Table:
    """One prompt's answers, a row each."""
    return make_table(_COLUMNS, [_row(answer) for answer in answers])


def totals(adapters: Sequence[str], answers: Sequence[Answer]) -> Table:
    """A row for each adapter over all prompts."""
    rows = []
    for adapter in dict.fromkeys(adapters):
        own = [answer for answer in answers if answer.adapter == adapter]
        errors = sum(bool(answer.error) for answer in own)
        rows.append(
            [
                shown_name(adapter),
                str(len(own) - errors),
                _milliseconds(_median(answer.first_token_seconds for answer in own)),
                str(sum(answer.completion_tokens for answer in own)),
                _rate(_median(answer.tokens_per_second for answer in own)),
                str(errors),
            ]
        )
    return make_table(_TOTAL_COLUMNS, rows)


def shown_name(adapter: str) -> str:
    return adapter or "base"


def _panel(running: RunningAnswer) -> Panel:
    answer = running.answer
    body = Text(running.text, overflow="fold")
    if answer is None:
        body.append("▌", style="dim")
    elif answer.error:
        body.append(("\n" if running.text else "") + answer.error, style="red")
    style = "dim" if answer is None else "red" if answer.error else "cyan"
    return Panel(
        body, title=Text(shown_name(running.adapter)), title_align="left", border_style=style
    )


def _row(answer: Answer) -> list[str]:
    return [
        shown_name(answer.adapter),
        short(answer.version) or "-",
        _milliseconds(answer.first_token_seconds),
        str(answer.completion_tokens),
        _rate(answer.tokens_per_second),
        "error" if answer.error else answer.finish_reason,
    ]


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.0f} ms"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
