"""More adapters in use than fit: the first token's wait, to what it is when all are resident.

    python -m benchmarks.thrash [--layers 4] [--rate 4] [--requests 100] [--json]

SGLang's case: 16 adapters, room for 8, 4 requests per second, 100 of them, each for the next
adapter in turn, so that none is resident when it is asked for again. There, with Llama-3.1-8B on a
GPU, the median went from 39.65 ms with 8 adapters to 6278 ms with 16. This machine bears 4 requests
of 64 tokens in and 32 out per second with 4 of TinyLlama's layers; with all 22, give --rate 0.8.

Evicted adapters stay packed in host memory; in the last row there is none, and they are read from
disk again. The engine runs offline; the sides take turns, ratios are medians within a round.
"""

import itertools
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

from benchmarks.offline_load import OfflineLoad, make_engine
from benchmarks.options import AsJson, Keep, Layers, Output
from benchmarks.report import Machine, Report, Row, publish
from benchmarks.shape_service import PROMPT_TOKENS, workspace, write_adapters, write_served_model
from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.engine.request import GetStats
from inference_service.engine.self_report import EngineStats
from lorikeet.load.popularity import distinct
from lorikeet.load.prompts import Prompts
from lorikeet.load.report import Figures
from lorikeet.load.report import Report as LoadReport
from lorikeet.load.workload import PlannedRequest, Workload, plan

_BAR = 2.0
_NUM_ADAPTERS, _ROOM = 16, 8


@dataclass(frozen=True)
class Side:
    """`max_loras` adapters fit in the arena, `host_memory_bytes` are for others."""

    name: str
    max_loras: int
    host_memory_bytes: int

    def config(self, model: Path) -> EngineConfig:
        return EngineConfig(
            str(model),
            memory_bytes=2 << 30,
            max_loras=self.max_loras,
            host_memory_bytes=self.host_memory_bytes,
        )


_SIDES = (
    Side("all 16 resident", 0, 1 << 30),
    Side("room for 8, the others in host memory", _ROOM, 1 << 30),
    Side("room for 8, the others on disk", _ROOM, 0),
)


@dataclass(frozen=True)
class Run:
    """What one run came to, and how many adapters were read from disk in it, or evicted."""

    figures: Figures
    num_loads: int
    num_evictions: int

    @property
    def p50(self) -> float:
        assert self.figures.to_first_token.p50 is not None
        return self.figures.to_first_token.p50


def main(
    layers: Layers = 4,
    rank: int = 16,
    rate: Annotated[float, typer.Option(help="Requests per second.")] = 4.0,
    requests: int = 100,
    runs: int = 2,
    keep: Keep = None,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Runs each side `runs` times, after a few requests to warm up."""
    machine = Machine.measure()
    with workspace(keep) as directory:
        model = write_served_model(directory, layers)
        paths = write_adapters(directory, model, [rank] * _NUM_ADAPTERS)
        known = {name: str(path) for name, path in paths.items()}
        engines = {side.name: make_engine(side.config(model), known) for side in _SIDES}
        results: dict[str, list[Run]] = {name: [] for name in engines}
        for engine in engines.values():
            _run(engine, _planned(list(paths), rate=1000.0, count=_NUM_ADAPTERS, seed=0), "warm-up")
        for run in track(range(runs), "runs"):
            for name, engine in engines.items():
                planned = _planned(list(paths), rate, requests, seed=run)
                results[name].append(_run(engine, planned, str(run)))
    title = (
        f"{_NUM_ADAPTERS} adapters of rank {rank} in turn, {rate:g} requests/s, {layers} layers: "
        "milliseconds to the first token"
    )
    rows = [_row(name, runs, results[_SIDES[0].name]) for name, runs in results.items()]
    publish(Report(title, machine, rows), as_json, output)


def _planned(names: list[str], rate: float, count: int, seed: int) -> Iterator[PlannedRequest]:
    planned = plan(Workload(distinct), adapters=names, tenants=("",), rate=rate, seed=seed)
    return itertools.islice(planned, count)


def _run(engine: Engine, planned: Iterator[PlannedRequest], salt: str) -> Run:
    before = _stats(engine)
    load = OfflineLoad(engine, Prompts(PROMPT_TOKENS, salt))
    figures = LoadReport.of(load.opened(planned)).all
    assert not figures.num_failed, figures.failures
    after = _stats(engine)
    return Run(
        figures,
        after.num_adapter_loads - before.num_adapter_loads,
        after.num_adapter_evictions - before.num_adapter_evictions,
    )


def _stats(engine: Engine) -> EngineStats:
    (stats,) = engine.handle(GetStats(0))
    assert isinstance(stats, EngineStats)
    return stats


def _row(name: str, runs: list[Run], resident: list[Run]) -> Row:
    ratio = statistics.median(a.p50 / b.p50 for a, b in zip(runs, resident, strict=True))
    has_bar = runs is not resident

    def milliseconds(percentile: str) -> float:
        firsts = (getattr(run.figures.to_first_token, percentile) for run in runs)
        return 1000 * float(statistics.median(firsts))

    figures: dict[str, float | None] = {
        "p50": milliseconds("p50"),
        "p90": milliseconds("p90"),
        "p99": milliseconds("p99"),
        "p50, ratio": ratio,
        "tokens/s": statistics.median(run.figures.output_tokens_per_second for run in runs),
        "evicted": statistics.median(run.num_evictions for run in runs),
        "read from disk": statistics.median(run.num_loads for run in runs),
    }
    if not has_bar:
        return Row(name, figures)
    return Row(name, figures, bar=f"p50 ≤ {_BAR:g} × resident", met=ratio <= _BAR)


if __name__ == "__main__":
    typer.run(main)
