"""What a load costs the requests that run meanwhile: the length of decode steps with and without.

    python -m benchmarks.loading [--layers 4] [--rank 64] [--json]

Eight base requests decode; in every second window adapters are loaded from disk and unloaded,
one after the other. Steps of both kinds of windows are compared.
"""

import json
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.options import AsJson, Layers
from benchmarks.synthetic import write_adapter, write_tinyllama
from inference_service.engine.adapter_files import declared_files
from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.engine.request import Load, Loaded, SamplingOptions, Submit, Unload
from inference_service.models.families import read_spec

_NUM_SEQUENCES = 8
_WINDOW_STEPS = 40


@dataclass(frozen=True)
class Steps:
    """Milliseconds of the decode steps of one kind of window, and how many loads ended in them."""

    median: float
    p99: float
    longest: float
    num_loads: int

    @classmethod
    def of(cls, seconds: list[float], num_loads: int) -> "Steps":
        ordered = sorted(1000 * value for value in seconds)
        p99 = ordered[int(0.99 * (len(ordered) - 1))]
        return cls(statistics.median(ordered), p99, ordered[-1], num_loads)


class Decoding:
    """Requests that decode for ever, and adapters that come and go when told to."""

    def __init__(self, model_path: Path, adapter: Path) -> None:
        self._adapter, self._files = adapter, declared_files(adapter)
        self._engine = Engine(EngineConfig(str(model_path), max_model_len=2048))
        self._submit()
        self._is_loading = False
        self.num_loads = 0

    def window(self, loads: bool) -> list[float]:
        """Seconds of each of a window's steps."""
        seconds = []
        for _ in range(_WINDOW_STEPS):
            if loads and not self._is_loading:
                self._engine.handle(Load(1, "adapter", str(self._adapter), self._files))
                self._is_loading = True
            began = time.perf_counter()
            replies = self._engine.step()
            seconds.append(time.perf_counter() - began)
            if any(isinstance(reply, Loaded) for reply in replies):
                self._unload()
        return seconds

    def settle(self) -> None:
        """Waits for a load under way, so that it falls into no other window."""
        while self._is_loading:
            if any(isinstance(reply, Loaded) for reply in self._engine.step()):
                self._unload()

    def restart(self) -> None:
        """Fresh requests: contexts stay alike from window to window."""
        while not self._engine.is_idle:
            self._engine.step()
        self._submit()

    def _submit(self) -> None:
        sampling = SamplingOptions(temperature=0.0, max_tokens=4 * _WINDOW_STEPS)
        for number in range(_NUM_SEQUENCES):
            self._engine.handle(Submit(number, [3 + number] * 32, sampling))
        self._engine.step()

    def _unload(self) -> None:
        self._engine.handle(Unload(2, "adapter"))
        self._is_loading = False
        self.num_loads += 1


def main(
    layers: Layers = 4,
    rank: int = 64,
    windows: Annotated[int, typer.Option(help="Of each kind.")] = 6,
    as_json: AsJson = False,
) -> None:
    """Alternates quiet windows and windows with loads, after a warm-up of one of each."""
    with tempfile.TemporaryDirectory() as root:
        model_path = write_tinyllama(Path(root) / "model", layers)
        spec = read_spec(model_path)
        adapter = write_adapter(Path(root) / "adapter", spec, rank, 0, torch.bfloat16)
        megabytes = (adapter / "adapter_model.safetensors").stat().st_size / 1e6
        quiet, loading = _measure(Decoding(model_path, adapter), windows)
    if as_json:
        print(json.dumps({"megabytes": megabytes, **_rows(quiet, loading)}))
    else:
        _print(quiet, loading, f"{layers} layers, adapters of {megabytes:.0f} MB")


def _measure(decoding: Decoding, windows: int) -> tuple[Steps, Steps]:
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for window in range(windows + 1):
        for loads in (False, True):
            elapsed = decoding.window(loads)
            decoding.settle()
            decoding.restart()
            if window:
                seconds[loads] += elapsed
            else:
                decoding.num_loads = 0
    return Steps.of(seconds[False], 0), Steps.of(seconds[True], decoding.num_loads)


def _rows(quiet: Steps, loading: Steps) -> dict[str, dict[str, float]]:
    return {"quiet": asdict(quiet), "loading": asdict(loading)}


def _print(quiet: Steps, loading: Steps, title: str) -> None:
    table = Table(title=title)
    for heading in ("decode steps, 8 requests", "median ms", "p99 ms", "longest ms", "loads"):
        table.add_column(heading, justify="left" if "decode" in heading else "right")
    for name, steps in (("quiet", quiet), ("while adapters load", loading)):
        table.add_row(
            *(name, f"{steps.median:.1f}", f"{steps.p99:.1f}", f"{steps.longest:.1f}"),
            str(steps.num_loads),
        )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
