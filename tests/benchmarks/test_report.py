"""What every benchmark shows: tables, JSON and plots."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.plots import line_plot
from benchmarks.report import Machine, Report, Row, format_figure, publish, table_of

MACHINE = Machine("A processor", 2, "avx512_bf16", 23.4, 63.5, 2, "2.13.0", "0.1.0")
REPORT = Report(
    "Engines",
    MACHINE,
    [
        Row("base only", {"tokens/s": 57.04, "PEFT": None, "ratio": 0.972}, "≥ 1.1", met=False),
        Row("first token", {"seconds": 7.4}, "≤ 8 s", met=True),
    ],
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((None, "–"), (0, "0"), (12345.6, "12,346"), (123.4, "123"), (12.34, "12.3")),
        *((1.234, "1.23"), (0.1234, "0.12"), (0.01234, "0.0123"), (-1.5, "-1.50")),
    ],
)
def test_figures_have_the_digits_that_mean_something(value: float | None, text: str) -> None:
    assert format_figure(value) == text


def test_a_figure_that_was_not_measured_is_a_dash_and_one_that_is_not_of_a_row_is_nothing() -> None:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table_of(REPORT))
    lines = {line.split("│")[1].strip(): line for line in capture.get().splitlines() if "│" in line}
    cells = [cell.strip() for cell in lines["base only"].strip("│").split("│")]
    assert cells == ["base only", "57.0", "–", "0.97", "", "≥ 1.1", "missed"]
    assert "met" in lines["first token"]


def test_json_is_printed_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "results" / "engines.json"
    publish(REPORT, as_json=True, output=output)
    assert json.loads(capsys.readouterr().out) == json.loads(output.read_text()) == asdict(REPORT)
    publish(REPORT, as_json=False, output=None)
    assert "63.5 GB/s" in capsys.readouterr().out


def test_the_machine_is_measured() -> None:
    machine = Machine.measure()
    assert machine.cores >= 1
    assert machine.read_gb_per_second > 0.1
    assert machine.instruction_set


def test_a_plot_of_the_same_figures_is_the_same_file(tmp_path: Path) -> None:
    series = {"ours": [(1, 50.0), (10, 49.0), (100, 48.5)], "bytes floor": [(1, 60.0), (100, 59.0)]}
    for name in ("first", "second"):
        line_plot(
            *(tmp_path / f"{name}.svg", "Adapters", "registered", "tokens/s", series),
            log_x=True,
            floor="bytes floor",
        )
    first = (tmp_path / "first.svg").read_text()
    assert first == (tmp_path / "second.svg").read_text()
    assert "bytes floor" in first


def test_a_floor_is_one_of_the_series(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no series"):
        line_plot(tmp_path / "a.svg", "", "", "", {"ours": [(1, 1.0)]}, floor="limit")
