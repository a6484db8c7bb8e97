"""The evaluation command: what it prints, and which options it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from examples.demo import evaluate
from examples.demo.evaluate import Running, as_json, score_table
from examples.demo.scoring import ROWS, Score, Scores
from examples.demo.tasks import TASKS


def scores(own: int) -> Scores:
    return {
        (adapter, task): Score(correct=own if adapter == task else 0, total=20)
        for adapter in ROWS
        for task in TASKS
    }


def run(
    monkeypatch: pytest.MonkeyPatch, result: Scores, *arguments: str
) -> tuple[int, str, list[Running | None]]:
    """Run the command with an evaluation that needs no service."""
    asked: list[Running | None] = []

    async def fake(running: Running | None, limit: int | None, console: Console) -> Scores:
        asked.append(running)
        return result

    monkeypatch.setattr(evaluate, "evaluate", fake)
    app = typer.Typer()
    app.command()(evaluate.main)
    outcome = CliRunner().invoke(app, list(arguments))
    return outcome.exit_code, outcome.output, asked


def test_table_names_every_adapter_and_the_base() -> None:
    table = score_table(scores(own=19))
    assert [str(column.header) for column in table.columns] == ["adapter", *TASKS]
    assert list(table.columns[0].cells) == ["base", *TASKS]
    assert list(table.columns[1].cells)[1] == "95.0% (19/20)"


def test_json_holds_the_same_figures() -> None:
    data = as_json(scores(own=19), [])
    assert data["exact_match"]["math"] == {"text2sql": 0.0, "math": 0.95, "function-calling": 0.0}
    assert data["exact_match"]["base"]["math"] == 0.0
    assert data["items_per_set"] == dict.fromkeys(TASKS, 20)


def test_missed_bar_is_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, scores(own=19))[0] == 0
    code, output, _ = run(monkeypatch, scores(own=10))
    assert code == 1
    assert "math on its own set: 50.0%" in output


def test_addresses_go_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, output, asked = run(monkeypatch, scores(own=19), "--inference", "127.0.0.1:1")
    assert (code, asked) == (2, [])
    assert "go together" in output
    keys = str(tmp_path / "credentials.json")
    addresses = ("--inference", "127.0.0.1:1", "--registry", "127.0.0.1:2", "--credentials", keys)
    code, _, asked = run(monkeypatch, scores(own=19), *addresses)
    assert (code, asked) == (0, [Running("127.0.0.1:1", "127.0.0.1:2", Path(keys))])
