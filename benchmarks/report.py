"""What a benchmark found and on which machine: one shape for tables, JSON and documents."""

import importlib.metadata
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.interleaved import read_bandwidth
from kernels.cpu.build import CompilerMissingError, has_amx, supported_isas

_CPU_INFO = Path("/proc/cpuinfo")
_ABSENT = "–"
_FILE_WIDTH = 140
_READS = 3  # the first may come before the threads have a core each


@dataclass(frozen=True)
class Machine:
    """`cores` are what this process may use; `instruction_set` is that of our bfloat16 kernels."""

    processor: str
    cores: int
    instruction_set: str
    memory_gib: float
    read_gb_per_second: float
    threads: int
    torch: str
    lorikeet: str

    @classmethod
    def measure(cls) -> "Machine":
        """Takes a second: reading memory is timed, with the threads that torch has."""
        return cls(
            processor=_processor(),
            cores=len(psutil.Process().cpu_affinity() or ()) or psutil.cpu_count() or 1,
            instruction_set=_instruction_set(),
            memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
            read_gb_per_second=round(max(read_bandwidth() for _ in range(_READS)), 1),
            threads=torch.get_num_threads(),
            torch=torch.__version__,
            lorikeet=importlib.metadata.version("lorikeet"),
        )

    def __str__(self) -> str:
        return (
            f"{self.processor}, {self.cores} cores, {self.instruction_set}, "
            f"{self.memory_gib:.0f} GiB read at {self.read_gb_per_second:.1f} GB/s "
            f"with {self.threads} threads; torch {self.torch}, lorikeet {self.lorikeet}"
        )


@dataclass(frozen=True)
class Row:
    """`figures` by what they are, with their unit; None: not measured. `met` is about `bar`."""

    name: str
    figures: dict[str, float | None]
    bar: str = ""
    met: bool | None = None


@dataclass(frozen=True)
class Report:
    """Rows may have different figures: each figure is a column of the table."""

    title: str
    machine: Machine
    rows: list[Row]


def publish(report: Report, as_json: bool, output: Path | None) -> None:
    """Prints the report, as JSON or a table; `output` gets the JSON in either case."""
    document = json.dumps(asdict(report), indent=1, ensure_ascii=False)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(document + "\n")
    if as_json:
        print(document)
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)
    console.print(table_of(report))
    console.print(str(report.machine), highlight=False)
    if output is not None:
        console.print(f"JSON: {output}", highlight=False)


def table_of(report: Report) -> Table:
    """Columns in the order in which the rows first name them; the bar's only if there is one.

    A figure of None is a dash; where a row has no such figure, nothing.
    """
    columns = list(dict.fromkeys(name for row in report.rows for name in row.figures))
    has_bars = any(row.bar for row in report.rows)
    table = Table(title=report.title)
    table.add_column("")
    for heading in columns:
        table.add_column(heading, justify="right")
    for heading in ("bar", "") if has_bars else ():
        table.add_column(heading)
    for row in report.rows:
        cells = [format_figure(row.figures[n]) if n in row.figures else "" for n in columns]
        verdict = (row.bar, _verdict(row.met)) if has_bars else ()
        table.add_row(row.name, *cells, *verdict)
    return table


def format_figure(value: float | None) -> str:
    """About three digits that mean something: 12,345, 123, 12.3, 1.23, 0.0123."""
    if value is None:
        return _ABSENT
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3g}"


def _verdict(met: bool | None) -> str:
    if met is None:
        return ""
    return "[green]met[/]" if met else "[red]missed[/]"


def _processor() -> str:
    lines = _CPU_INFO.read_text().splitlines() if _CPU_INFO.exists() else []
    return _first_value(lines, "model name") or "unknown processor"


def _first_value(lines: Iterable[str], key: str) -> str | None:
    values = (line.partition(":")[2].strip() for line in lines if line.startswith(key))
    return next(values, None)


def _instruction_set() -> str:
    try:
        isa = supported_isas("bfloat16")[-1].name
        return f"{isa} and oneDNN's amx" if has_amx() else isa
    except CompilerMissingError:
        return "torch only: no compiler"
