"""The loads of published evaluations, on the offline engine: throughput, first tokens, SLO.

    python -m benchmarks.workloads [--only slora] [--layers 4] [--length-scale 0.125] [--json]

| slora | S-LoRA's synthetic load: --alpha, --cv, --num-adapters, --ranks 64,32,16,8, --rate |
| punica | Punica's popularities distinct, identical, uniform, zipf:1.5; closed loop of 16 |
| sharegpt | lengths of ShareGPT's conversations at Poisson rates, 16 adapters, zipf |
| tenants | 1,000 tenants with an adapter each, asked for by zipf 1; closed loop of 16 |

These were made for GPUs: with 4 of TinyLlama's layers two cores make some hundred tokens per
second, so that all lengths are an eighth of those published, and rates lower; --length-scale 1 and
--layers 22 are as published. What is to be compared is how a row changes with its load. An SLO is
attained by a request whose first token comes within 6 s, S-LoRA's bound.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import track

from benchmarks.offline_load import OfflineLoad, make_engine
from benchmarks.options import AsJson, Keep, Layers, Output
from benchmarks.published import SloraLoad, punica_requests, scaled
from benchmarks.report import Machine, Report, Row, publish
from benchmarks.shape_service import PROMPT_TOKENS, workspace, write_adapters, write_served_model
from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from lorikeet.load.generator import Measured
from lorikeet.load.prompts import Prompts
from lorikeet.load.report import Report as LoadReport
from lorikeet.load.workload import PlannedRequest, parse_workload, plan

_SLO_SECONDS: Final = 6.0
_BATCH: Final = 16
_ATTENTION: Final = ("q_proj", "k_proj", "v_proj", "o_proj")  # S-LoRA's and Punica's modules
_NUM_TENANTS: Final = 1000
_MOST_REQUESTS_PER_SECOND: Final = 4096.0  # stands for an infinite rate


@dataclass(frozen=True)
class Load:
    """Requests that come when they are due, or, with `concurrency`, so many at a time."""

    family: str
    name: str
    requests: list[PlannedRequest]
    concurrency: int | None = None


def main(
    layers: Layers = 4,
    only: Annotated[str, typer.Option(help="slora, punica, sharegpt or tenants.")] = "",
    length_scale: Annotated[float, typer.Option(help="Of prompts and answers.")] = 0.125,
    ranks: Annotated[str, typer.Option(help="Adapter i has the i-th, over and over.")] = (
        "64,32,16,8"
    ),
    num_adapters: Annotated[str, typer.Option(help="S-LoRA's N.")] = "5,200",
    alpha: Annotated[str, typer.Option(help="S-LoRA's power law.")] = "1",
    cv: Annotated[str, typer.Option(help="S-LoRA's gaps between requests.")] = "1",
    rate: Annotated[float, typer.Option(help="S-LoRA's requests per second.")] = 4.0,
    sharegpt_rates: str = "1,4,inf",
    seconds: Annotated[float, typer.Option(help="Of an open loop.")] = 10.0,
    requests: Annotated[int, typer.Option(help="Of a closed loop.")] = 32,
    memory_gib: float = 2.0,
    host_memory_gib: float = 4.0,
    keep: Keep = None,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """One row for each load; all run on one engine, which knows every adapter."""
    machine = Machine.measure()
    loads: dict[str, Callable[[], Iterator[Load]]] = {
        "slora": lambda: _slora(
            _numbers(num_adapters), _numbers(alpha), _numbers(cv), rate, seconds
        ),
        "punica": lambda: _punica(requests),
        "sharegpt": lambda: _sharegpt(_numbers(sharegpt_rates), seconds),
        "tenants": lambda: _tenants(requests),
    }
    if only and only not in loads:
        raise typer.BadParameter(f"one of {', '.join(loads)}", param_hint="--only")
    chosen = [load for name, make in loads.items() if only in ("", name) for load in make()]
    with workspace(keep) as directory:
        model = write_served_model(directory, layers)
        paths = write_adapters(directory, model, list(map(int, _numbers(ranks))), _ATTENTION)
        config = EngineConfig(
            str(model),
            memory_bytes=int(memory_gib * 2**30),
            host_memory_bytes=int(host_memory_gib * 2**30),
        )
        engine = make_engine(config, _known(chosen, list(paths.values())))
        _run(engine, Load("", "warm-up", punica_requests("identical", 16)), length_scale)
        rows = [_row(load, _run(engine, load, length_scale)) for load in track(chosen, "loads")]
    title = f"Published loads, lengths × {length_scale:g}, {layers} layers, ranks {ranks}"
    publish(Report(title, machine, rows), as_json, output)


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _slora(
    counts: list[float], alphas: list[float], cvs: list[float], rate: float, seconds: float
) -> Iterator[Load]:
    for count, alpha, cv in itertools.product(map(int, counts), alphas, cvs):
        load = SloraLoad(count, rate, seconds, alpha, cv)
        name = f"S-LoRA, N {count:,}, α {alpha:g}, cv {cv:g}, {rate:g}/s"
        yield Load("slora", name, load.requests([str(index) for index in range(count)]))


def _punica(count: int) -> Iterator[Load]:
    for popularity in ("distinct", "identical", "uniform", "zipf:1.5"):
        requests = punica_requests(popularity, count)
        yield Load("punica", f"Punica, {popularity}, {_BATCH} at once", requests, _BATCH)


def _sharegpt(rates: list[float], seconds: float) -> Iterator[Load]:
    adapters = [str(index) for index in range(16)]
    for rate in rates:
        drawn = rate if math.isfinite(rate) else _MOST_REQUESTS_PER_SECOND
        planned = plan(
            parse_workload("sharegpt"), adapters=adapters, tenants=("",), rate=drawn, seed=0
        )
        count = max(8, round(seconds * rate)) if math.isfinite(rate) else 32
        yield Load(
            "sharegpt", f"ShareGPT's lengths, {rate:g}/s", list(itertools.islice(planned, count))
        )


def _tenants(count: int) -> Iterator[Load]:
    names = [str(index) for index in range(_NUM_TENANTS)]
    planned = plan(parse_workload("zipf"), adapters=names, tenants=("",), rate=None, seed=0)
    requests = [
        PlannedRequest(each.number, 0.0, each.adapter, f"tenant-{each.adapter}", 512, 256)
        for each in itertools.islice(planned, count)
    ]
    yield Load("tenants", f"{_NUM_TENANTS:,} tenants, zipf 1, {_BATCH} at once", requests, _BATCH)


def _known(loads: list[Load], paths: list[Path]) -> dict[str, str]:
    """The i-th adapter of every load has the i-th rank; the engine loads each for itself."""
    digests = {request.adapter for load in loads for request in load.requests} | {"0"}
    return {digest: str(paths[int(digest) % len(paths)]) for digest in sorted(digests, key=int)}


def _run(engine: Engine, load: Load, length_scale: float) -> Measured:
    driver = OfflineLoad(engine, Prompts(PROMPT_TOKENS, load.name))
    requests = scaled(load.requests, length_scale)
    if load.concurrency is None:
        return driver.opened(requests)
    return driver.closed(requests, load.concurrency)


def _row(load: Load, measured: Measured) -> Row:
    figures = LoadReport.of(measured).all
    assert not figures.num_failed, figures.failures
    first = figures.to_first_token
    assert first.p50 is not None
    assert first.p99 is not None
    delays = (sample.to_first_token for sample in measured.samples)
    attained = [delay is not None and delay <= _SLO_SECONDS for delay in delays]
    return Row(
        load.name,
        {
            "adapters": len({request.adapter for request in load.requests}),
            "requests": figures.num_requests,
            "requests/s": figures.requests_per_second,
            "prompt tokens/s": figures.prompt_tokens_per_second,
            "tokens/s": figures.output_tokens_per_second,
            "first token p50 s": first.p50,
            "p99 s": first.p99,
            "within 6 s": sum(attained) / len(attained),
        },
    )


if __name__ == "__main__":
    typer.run(main)
