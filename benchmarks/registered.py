"""Throughput as adapters are registered: 5 against 2,000, and adapters at all against none.

    python -m benchmarks.registered [--layers 4] [--json]

One engine for each number of registered adapters; their runs alternate, so that what else the
machine does falls on all of them. Ratios are medians of the ratios to the first row in the same
round. The floor is by bytes: what a step reads of the base and, on average, of distinct adapters.
Adapters are of the attention's four projections, as in S-LoRA's figures, or of all seven linear
modules with --all-modules.
"""

import itertools
import json
import random
import statistics
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.closed_loop import Shape, Throughput, load_all, run_closed_loop
from benchmarks.synthetic import write_adapter, write_tinyllama
from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.models.families import read_spec
from lorikeet.load.popularity import zipf

_NUM_FILES = 20  # distinct directories; the engine knows adapters by digest and loads each one
_RANK = 8
_ELEMENT_BYTES = 2
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True)
class Scenario:
    """`num_registered` adapters are known; requests are for `num_requested` of them, zipf 1."""

    name: str
    num_registered: int
    num_requested: int


SCENARIOS = (
    Scenario("base only, no adapter known", 0, 0),
    Scenario("base only, 50 adapters resident", 50, 0),
    Scenario("5 registered", 5, 5),
    Scenario("2,000 registered, the same 5 requested", 2000, 5),
    Scenario("2,000 registered, all requested", 2000, 2000),
)


@dataclass(frozen=True)
class Row:
    """Medians; ratios are to the scenario of the same kind with the fewest adapters."""

    name: str
    tokens_per_second: float
    mean_adapters: float
    ratio: float
    floor: float


def main(
    layers: Annotated[int, typer.Option(help="Of TinyLlama's shape; 22 is the whole.")] = 4,
    requests: Annotated[int, typer.Option(help="In a run.")] = 64,
    runs: int = 5,
    all_modules: bool = False,
    memory_gib: float = 2.0,
    host_memory_gib: float = 4.0,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Times all scenarios `runs` times, after one warm-up."""
    with tempfile.TemporaryDirectory() as root:
        model_path = write_tinyllama(Path(root) / "model", layers)
        spec = read_spec(model_path)
        modules = spec.modules if all_modules else _ATTENTION
        paths = [
            write_adapter(Path(root) / str(seed), spec, _RANK, seed, torch.bfloat16, modules)
            for seed in range(_NUM_FILES)
        ]
        config = EngineConfig(
            str(model_path),
            memory_bytes=int(memory_gib * 2**30),
            host_memory_bytes=int(host_memory_gib * 2**30),
            max_model_len=512,
        )
        results, base_bytes = _time(config, paths, requests, runs)
    width = sum(sum(spec.module_shape(module)) for module in modules)
    adapter_bytes = spec.num_layers * _RANK * width * _ELEMENT_BYTES
    base_bytes -= spec.vocab_size * spec.hidden_size * _ELEMENT_BYTES  # the embedding's rows
    rows = [_row(scenario, results, adapter_bytes / base_bytes) for scenario in SCENARIOS]
    if as_json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        _print(rows, layers, runs)


def _time(
    config: EngineConfig, paths: list[Path], num_requests: int, runs: int
) -> tuple[dict[str, list[Throughput]], int]:
    """Results by scenario, and the bytes of the base."""
    engines = {scenario.num_registered: Engine(config) for scenario in SCENARIOS}
    for num_registered, engine in engines.items():
        load_all(engine, [(str(i), str(paths[i % len(paths)])) for i in range(num_registered)])
    results: dict[str, list[Throughput]] = {scenario.name: [] for scenario in SCENARIOS}
    for run in track(range(runs + 1), "runs"):
        for scenario in SCENARIOS:
            digests = _zipf(scenario.num_requested, num_requests, seed=run)
            result = run_closed_loop(engines[scenario.num_registered], digests, Shape())
            if run:
                results[scenario.name].append(result)
    return results, engines[0].info.base_weight_bytes


def _zipf(num_adapters: int, num_requests: int, seed: int) -> list[str]:
    if num_adapters == 0:
        return [""] * num_requests
    indices = zipf(random.Random(seed), num_adapters)
    return [str(index) for index in itertools.islice(indices, num_requests)]


def _row(scenario: Scenario, results: dict[str, list[Throughput]], quotient: float) -> Row:
    reference = SCENARIOS[2 if scenario.num_requested else 0]
    mine, theirs = results[scenario.name], results[reference.name]
    ratios = [a.tokens_per_second / b.tokens_per_second for a, b in zip(mine, theirs, strict=True)]
    adapters, fewest = (
        statistics.median(result.mean_adapters for result in side) for side in (mine, theirs)
    )
    return Row(
        scenario.name,
        statistics.median(result.tokens_per_second for result in mine),
        adapters,
        statistics.median(ratios),
        (1 + quotient * fewest) / (1 + quotient * adapters),
    )


def _print(rows: list[Row], layers: int, runs: int) -> None:
    title = f"{layers} layers of TinyLlama's shape, bfloat16, rank {_RANK}; medians of {runs} runs"
    table = Table(title=title)
    for heading in ("16 requests at once", "tokens/s", "adapters in a batch", "ratio", "by bytes"):
        table.add_column(heading, justify="left" if "requests" in heading else "right")
    for row in rows:
        table.add_row(
            *(row.name, f"{row.tokens_per_second:.0f}", f"{row.mean_adapters:.1f}"),
            *(f"{row.ratio:.3f}", f"{row.floor:.3f}"),
        )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
