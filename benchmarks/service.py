"""The whole service against the engine alone: what registry, gRPC and processes take of it.

    python -m benchmarks.service [--layers 22] [--runs 3] [--keep DIRECTORY] [--json]

16 streams of 64 tokens in and 32 out on TinyLlama's shape: base only, and each with an adapter of
its own (ranks 8, 16, 32, 64). An engine in this process runs them offline; a registry, a front end
and its engine run them for a client in this process, over gRPC. They take turns on the same cores;
ratios are medians of the ratios within a round.
"""

import asyncio
import itertools
import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import psutil
import typer
from rich.progress import track

from benchmarks.offline_load import OfflineLoad, make_engine
from benchmarks.options import AsJson, Keep, Layers, Output
from benchmarks.report import Machine, Report, Row, publish
from benchmarks.shape_service import (
    PROMPT_TOKENS,
    Served,
    serving,
    workspace,
    write_adapters,
    write_served_model,
)
from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from lorikeet.client import AsyncClient
from lorikeet.load.generator import LoadGenerator, Measured
from lorikeet.load.popularity import distinct
from lorikeet.load.prompts import Prompts
from lorikeet.load.report import Report as LoadReport
from lorikeet.load.workload import PlannedRequest, Workload, plan

_BAR = 0.95
_STREAMS = 16
_RANKS = (8, 16, 32, 64) * 4
_MEMORY_GIB = 3


@dataclass(frozen=True)
class Pair:
    """One round of one load on both sides. `front_end`: its share of a core, `client`: ours."""

    offline: LoadReport
    service: LoadReport
    front_end: float
    client: float

    @property
    def ratio(self) -> float:
        return _rate(self.service) / _rate(self.offline)


class Sides:
    """The engine here and the service, which know the same adapters under the same names."""

    def __init__(self, engine: Engine, client: AsyncClient, served: Served) -> None:
        self._engine, self._client, self._served = engine, client, served
        self._rounds = itertools.count()

    async def run(self, adapters: list[str], waves: int) -> Pair:
        """Both sides on the same requests, of which no prompt was seen before."""
        number = next(self._rounds)
        prompts = Prompts(PROMPT_TOKENS, salt=str(number))
        requests = list(_requests(adapters, waves * _STREAMS))
        offline = OfflineLoad(self._engine, prompts).closed(iter(requests), _STREAMS)
        inference = self._served.stack.inference
        assert inference is not None
        processes = [psutil.Process(pid) for pid in (inference.pid, os.getpid())]
        before = [_processor_seconds(process) for process in processes]
        service = await LoadGenerator(self._client, prompts, 2048).closed(iter(requests), _STREAMS)
        used = [_processor_seconds(p) - b for p, b in zip(processes, before, strict=True)]
        front_end, client = (seconds / service.seconds for seconds in used)
        return Pair(_checked(offline), _checked(service), front_end, client)


def _requests(adapters: list[str], count: int) -> Iterator[PlannedRequest]:
    workload = Workload(distinct)
    planned = plan(workload, adapters=adapters, tenants=("",), rate=None, seed=0)
    return itertools.islice(planned, count)


def _checked(measured: Measured) -> LoadReport:
    report = LoadReport.of(measured)
    assert not report.all.num_failed, report.all.failures
    return report


def _rate(report: LoadReport) -> float:
    return report.all.output_tokens_per_second


def _processor_seconds(process: psutil.Process) -> float:
    """Of the process itself, in all of its threads."""
    times = process.cpu_times()
    return float(times.user + times.system)


def main(
    layers: Layers = 22,
    runs: int = 3,
    waves: Annotated[int, typer.Option(help="Requests of each stream, one after the other.")] = 1,
    keep: Keep = None,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Times both sides `runs` times, after one warm-up."""
    machine = Machine.measure()
    with workspace(keep) as directory:
        model = write_served_model(directory, layers)
        paths = write_adapters(directory, model, _RANKS)
        memory_bytes = _MEMORY_GIB << 30
        config = EngineConfig(str(model), memory_bytes=memory_bytes)
        engine = make_engine(config, {name: str(path) for name, path in paths.items()})
        with serving(model, paths, ("--memory", str(memory_bytes))) as served:
            pairs = asyncio.run(_measure(engine, served, list(paths), runs, waves))
    rows = [_row(name, side) for name, side in pairs.items()]
    title = f"Service against offline engine: {_STREAMS} streams, 64 in, 32 out, {layers} layers"
    publish(Report(title, machine, rows), as_json, output)


async def _measure(
    engine: Engine, served: Served, adapters: list[str], runs: int, waves: int
) -> dict[str, list[Pair]]:
    loads = {"base only": [""], f"{len(adapters)} adapters": adapters}
    pairs: dict[str, list[Pair]] = {name: [] for name in loads}
    async with served.stack.async_client(served.key) as client:
        async for _ in client.prefetch(adapters):
            pass
        sides = Sides(engine, client, served)
        for run in track(range(runs + 1), "runs"):
            for name, chosen in loads.items():
                pair = await sides.run(chosen, waves)
                if run:
                    pairs[name].append(pair)
    return pairs


def _row(name: str, pairs: list[Pair]) -> Row:
    ratio = statistics.median(pair.ratio for pair in pairs)

    def first_token(reports: list[LoadReport]) -> float:
        return 1000 * statistics.median(report.all.to_first_token.p50 or 0.0 for report in reports)

    figures: dict[str, float | None] = {
        "offline tokens/s": statistics.median(_rate(pair.offline) for pair in pairs),
        "service tokens/s": statistics.median(_rate(pair.service) for pair in pairs),
        "ratio": ratio,
        "least": min(pair.ratio for pair in pairs),
        "first token ms, offline": first_token([pair.offline for pair in pairs]),
        "service": first_token([pair.service for pair in pairs]),
        "front end, of a core": statistics.median(pair.front_end for pair in pairs),
        "client": statistics.median(pair.client for pair in pairs),
    }
    return Row(name, figures, bar=f"ratio ≥ {_BAR}", met=ratio >= _BAR)


if __name__ == "__main__":
    typer.run(main)
