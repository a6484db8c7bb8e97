"""ResolveAdapter beside MLflow's alias lookup, under load, and with 100 and 100,000 adapters.

    python -m benchmarks.registry [--seconds 5] [--rounds 3] [--json]

Starts PostgreSQL 15, two registries and MLflow's tracking server with its default workers, each on
a database of its own of that PostgreSQL. MLflow is installed into --mlflow-dir the first time.
Sides alternate, figures are medians of rounds, clients are two processes on the same machine. The
registry checks an API key, the right to act for a tenant and an allow-list; MLflow checks nothing.
"""

import asyncio
import json
import random
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.load import Delays, LoadGenerator, load_generator
from benchmarks.lookups import Service
from benchmarks.mlflow_server import (
    MlflowServer,
    installed,
    register,
    running_mlflow,
    version_of,
)
from benchmarks.options import AsJson
from benchmarks.processor_time import processor_seconds
from benchmarks.registry_report import FEW, Latency, Report, Throughput, machine, print_report
from benchmarks.registry_server import RegistryServer, fill, running_registry
from tests.servers.guard import Guard
from tests.servers.postgresql import PostgresServer, debian_15, start_postgres

_MLFLOW_DIR = Path.home() / ".cache" / "lorikeet" / "mlflow"
_CLIENTS = (1, 8, 32)
_ONCE_CLIENTS = 8
_WARM_CLIENTS = 32
_WARM_SECONDS = 20.0


@dataclass(frozen=True)
class Plan:
    """`many` adapters in the large registry; `first` names are asked for after each restart."""

    seconds: float
    rounds: int
    many: int
    first: int


@dataclass(frozen=True)
class Bench:
    """Everything that runs while it is measured."""

    few: RegistryServer
    many: RegistryServer
    mlflow: MlflowServer
    mlflow_version: str
    postgres_pid: int


def main(
    seconds: Annotated[float, typer.Option(help="Of one measurement.")] = 5.0,
    rounds: int = 3,
    adapters: Annotated[int, typer.Option(help="In the large registry.")] = 100_000,
    first: Annotated[int, typer.Option(help="Names asked for after a restart.")] = 3000,
    mlflow_dir: Annotated[Path, typer.Option(help="MLflow's own environment.")] = _MLFLOW_DIR,
    only_mlflow: Annotated[bool, typer.Option(help="Leave out few and many adapters.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measures everything; some minutes."""
    plan = Plan(seconds, rounds, adapters, first)
    note = Console(stderr=True).print
    note("starting servers, registering adapters")
    with _running(plan, installed(mlflow_dir)) as bench, load_generator() as load:
        note("closed loops beside MLflow")
        throughput = [_throughput(bench, load, plan, clients) for clients in _CLIENTS]
        rate = max(row.ours for row in throughput) / 2
        note("open loop")
        latency = [_half_saturation(bench, load, plan, rate)]
        filled_s = None
        if not only_mlflow:
            note("few and many adapters")
            latency += _sizes(bench, load, plan, rate)
            filled_s = bench.many.wait_until_filled()
    ratios = _ratios(latency, plan)
    report = Report(machine(), bench.mlflow_version, throughput, latency, ratios, filled_s)
    if as_json:
        print(json.dumps(asdict(report)))
    else:
        print_report(report)


@contextmanager
def _running(plan: Plan, mlflow_program: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        guard = stack.enter_context(Guard())
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = start_postgres(debian_15(), guard)
        stack.callback(postgres.process.stop)
        few = stack.enter_context(_filled(postgres, root / "few", FEW))
        many = stack.enter_context(_filled(postgres, root / "many", plan.many))
        url = postgres.create_database("mlflow")
        mlflow = stack.enter_context(running_mlflow(mlflow_program, url, root))
        register(mlflow.address, FEW)
        yield Bench(few, many, mlflow, version_of(mlflow_program), postgres.process.pid)


@contextmanager
def _filled(postgres: PostgresServer, directory: Path, count: int) -> Iterator[RegistryServer]:
    with running_registry(postgres, directory, count) as server:
        asyncio.run(fill(server, postgres, count))
        yield server


def _throughput(bench: Bench, load: LoadGenerator, plan: Plan, clients: int) -> Throughput:
    """One round unmeasured, so that neither side is asked for the first time."""
    sides = [
        (bench.few.service, [bench.few.pid, bench.postgres_pid]),
        (Service(bench.mlflow.address), [bench.mlflow.pid, bench.postgres_pid]),
    ]
    rounds = [
        [_closed(load, *side, clients, plan.seconds) for side in sides]
        for _ in range(plan.rounds + 1)
    ]
    ours, theirs = zip(*rounds[1:], strict=True)
    return Throughput(
        clients,
        statistics.median(rate for rate, _ in ours),
        statistics.median(rate for rate, _ in theirs),
        statistics.median(a[0] / b[0] for a, b in zip(ours, theirs, strict=True)),
        statistics.median(cost for _, cost in ours),
        statistics.median(cost for _, cost in theirs),
        statistics.median(b[1] / a[1] for a, b in zip(ours, theirs, strict=True)),
    )


def _closed(
    load: LoadGenerator, service: Service, pids: list[int], clients: int, seconds: float
) -> tuple[float, float]:
    """Rate and cost."""
    before = processor_seconds(pids)
    delays = load.closed(service, FEW, clients, seconds)
    spent = processor_seconds(pids) - before
    return delays.rate, 1000 * spent / len(delays.milliseconds)


def _half_saturation(bench: Bench, load: LoadGenerator, plan: Plan, rate: float) -> Latency:
    runs = [load.opened(bench.few.service, FEW, rate, plan.seconds) for _ in range(plan.rounds)]
    return _latency("half of saturation", FEW, 0, runs)


def _sizes(bench: Bench, load: LoadGenerator, plan: Plan, rate: float) -> list[Latency]:
    first_questions = list(_first_questions(bench, load, plan))
    # What is not remembered takes longer: both sides must keep up without any memory.
    rate = min(rate, *(row.rate for row in first_questions)) / 2
    return [*first_questions, *_few_and_many(bench, load, plan, rate)]


def _first_questions(bench: Bench, load: LoadGenerator, plan: Plan) -> Iterator[Latency]:
    """Names that were not asked for since the registry started: nothing is remembered of them."""
    sides = [(bench.few, FEW), (bench.many, plan.many)]
    runs: dict[int, list[Delays]] = {count: [] for _, count in sides}
    for _ in range(plan.rounds):
        for server, count in sides:
            server.restart()
            load.once(server.service, [0] * 50, _ONCE_CLIENTS)  # connections, keys, imports
            chosen = random.sample(range(1, count), min(count - 1, plan.first))
            runs[count].append(load.once(server.service, chosen, _ONCE_CLIENTS))
    for count, delays in runs.items():
        yield _latency("first question after a start", count, _ONCE_CLIENTS, delays)


def _few_and_many(bench: Bench, load: LoadGenerator, plan: Plan, rate: float) -> Iterator[Latency]:
    """Names at random out of all, soon after a start and later; and always the same few."""
    sides = [(bench.few, FEW), (bench.many, plan.many)]

    def turns(what: str, *, afresh: bool = False, only_few: bool = False) -> Iterator[Latency]:
        runs: dict[int, list[Delays]] = {count: [] for _, count in sides}
        for _ in range(plan.rounds):
            for server, count in sides:
                if afresh:
                    server.restart()
                names = FEW if only_few else count
                runs[count].append(load.opened(server.service, names, rate, plan.seconds))
        for count, delays in runs.items():
            yield _latency(what, count, 0, delays)

    yield from turns("any name, after a start", afresh=True)
    for server, count in sides:
        load.closed(server.service, count, _WARM_CLIENTS, _WARM_SECONDS)
        server.wait_until_filled()
    yield from turns("any name, once all are in memory")
    yield from turns("the same 100 names", only_few=True)


def _latency(what: str, adapters: int, clients: int, runs: list[Delays]) -> Latency:
    return Latency(
        what,
        adapters,
        clients,
        statistics.median(run.rate for run in runs),
        statistics.median(run.median for run in runs),
        statistics.median(run.percentile(0.99) for run in runs),
    )


def _ratios(latency: list[Latency], plan: Plan) -> dict[str, float]:
    """Of the large registry to the small, by what was measured and percentile."""
    few = {row.what: row for row in latency if row.adapters == FEW}
    result = {}
    for row in latency:
        if row.adapters == plan.many:
            result[f"{row.what}: p50"] = row.p50 / few[row.what].p50
            result[f"{row.what}: p99"] = row.p99 / few[row.what].p99
    return result


if __name__ == "__main__":
    typer.run(main)
