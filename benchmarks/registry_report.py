"""What the registry's benchmark found, and how it is shown."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

FEW = 100  # adapters in the small registry, and models in MLflow


@dataclass(frozen=True)
class Throughput:
    """Requests per second in a closed loop; `cost` in milliseconds of processor time per request.

    A cost is that of the server's processes and PostgreSQL's; clients are not in it.
    """

    clients: int
    ours: float
    mlflow: float
    ratio: float
    cost_ours: float
    cost_mlflow: float
    cost_ratio: float


@dataclass(frozen=True)
class Latency:
    """Milliseconds; `rate` in requests per second. Without `clients` the loop was open."""

    what: str
    adapters: int
    clients: int
    rate: float
    p50: float
    p99: float


@dataclass(frozen=True)
class Report:
    """`filled_s`: from the start of the large registry until all its adapters were in memory."""

    machine: str
    mlflow: str
    throughput: list[Throughput]
    latency: list[Latency]
    many_to_few: dict[str, float]
    filled_s: float | None


def machine() -> str:
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{os.cpu_count()} x {model}, {platform.system()}, Python {platform.python_version()}"


def print_report(report: Report) -> None:
    console = Console(width=120)
    console.print(f"{report.machine}; {report.mlflow}; PostgreSQL 15")
    headings = ("clients", "ours/s", "MLflow/s", "ratio", "ours ms", "MLflow ms", "ratio")
    title = f"Closed loop, {FEW} names; processor time per request"
    table = Table(*headings, title=title)
    for line in report.throughput:
        rates = (f"{line.ours:.0f}", f"{line.mlflow:.0f}", f"{line.ratio:.1f}")
        costs = (f"{line.cost_ours:.2f}", f"{line.cost_mlflow:.2f}", f"{line.cost_ratio:.1f}")
        table.add_row(str(line.clients), *rates, *costs)
    console.print(table)
    columns = ("asked for", "adapters", "loop", "rate/s", "p50 ms", "p99 ms")
    table = Table(*columns, title="ResolveAdapter by alias")
    for row in report.latency:
        loop = f"{row.clients} clients" if row.clients else "open"
        figures = (f"{row.rate:.0f}", f"{row.p50:.2f}", f"{row.p99:.2f}")
        table.add_row(row.what, f"{row.adapters:,}", loop, *figures)
    console.print(table)
    table = Table("many adapters to few", "ratio")
    for what, ratio in report.many_to_few.items():
        table.add_row(what, f"{ratio:.2f}")
    console.print(table)
    if report.filled_s is not None:
        console.print(f"All adapters were in memory {report.filled_s:.0f} s after the start.")
