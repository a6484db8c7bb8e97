"""Milliseconds per decode step of the engine alone, without gRPC: base only against adapters.

    python -m benchmarks.decode [--threads N] [--dtype float32] [--json]

Batches of eight sequences of the demo model alternate, so that what else the machine does falls
on all of them; a figure is the median of the runs.
"""

import json
import statistics
import time
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.options import AsJson
from examples.demo.layout import ADAPTER_NAMES, ADAPTERS_DIR, BASE_DIR
from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.engine.request import Load, SamplingOptions, Submit


class DType(StrEnum):
    """What the engine computes in."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


_NUM_SEQUENCES = 8
_PROMPT_TOKENS = 30
_NEW_TOKENS = 128
_BATCHES = {
    "base only": [""] * _NUM_SEQUENCES,
    "base and 3 adapters": (["", *ADAPTER_NAMES] * _NUM_SEQUENCES)[:_NUM_SEQUENCES],
    "1 shared adapter": [ADAPTER_NAMES[0]] * _NUM_SEQUENCES,
}


def main(
    threads: Annotated[int, typer.Option(help="0: the engine's own choice.")] = 0,
    dtype: DType = DType.auto,
    runs: int = 9,
    as_json: AsJson = False,
) -> None:
    """Times all batches `runs` times, after one warm-up."""
    engine = _start(EngineConfig(str(BASE_DIR), dtype=dtype.value, num_threads=threads))
    seconds: dict[str, list[float]] = {name: [] for name in _BATCHES}
    for run in range(runs + 1):
        for name, digests in _BATCHES.items():
            elapsed = _time_steps(engine, digests)
            if run:
                seconds[name].append(elapsed)
    medians = {name: 1000 * statistics.median(values) for name, values in seconds.items()}
    if as_json:
        print(json.dumps({"milliseconds_per_step": medians, **_setting(engine)}))
    else:
        _print(medians, engine)


def _start(config: EngineConfig) -> Engine:
    engine = Engine(config)
    for number, name in enumerate(ADAPTER_NAMES):
        engine.handle(Load(number, name, str(ADAPTERS_DIR / name)))
    while not engine.is_idle:
        engine.step()
    return engine


def _time_steps(engine: Engine, digests: list[str]) -> float:
    """Seconds per step, prefill left out."""
    sampling = SamplingOptions(temperature=0.0, max_tokens=_NEW_TOKENS)
    for number, digest in enumerate(digests):
        engine.handle(Submit(number, [3 + number] * _PROMPT_TOKENS, sampling, digest))
    engine.step()
    began, first_step = time.perf_counter(), engine.num_steps
    while not engine.is_idle:
        engine.step()
    return (time.perf_counter() - began) / (engine.num_steps - first_step)


def _setting(engine: Engine) -> dict[str, str]:
    return {"device": engine.info.device, "dtype": engine.info.dtype}


def _print(medians: dict[str, float], engine: Engine) -> None:
    base = medians["base only"]
    table = Table(title=", ".join(_setting(engine).values()))
    for heading in (f"batch of {_NUM_SEQUENCES}", "ms per step", "tokens/s", "of base only"):
        table.add_column(heading, justify="left" if "batch" in heading else "right")
    for name, median in medians.items():
        tokens = _NUM_SEQUENCES * 1000 / median
        table.add_row(name, f"{median:.2f}", f"{tokens:.0f}", f"{base / median:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
