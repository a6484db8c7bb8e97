"""Memory of adapters on one shared base against as many separate instances.

    python -m benchmarks.memory [--layers 22] [--json]

Measured, not computed: the unique set size of engine processes that hold the adapters and have
answered with each, as the operating system sees it. A separate instance is such a process with one
adapter and an arena for one; where --instances of them run at once, more are multiples of those.
"""

import asyncio
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import psutil
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.options import AsJson, Layers
from benchmarks.synthetic import write_adapter, write_tinyllama
from inference_service.engine.adapter_files import declared_files
from inference_service.engine.config import EngineConfig
from inference_service.engine.process import ChildEngineClient
from inference_service.engine.request import SamplingOptions
from inference_service.models.families import read_spec
from lorikeet.cli.output import format_bytes

_RANK = 64
_COUNTS = (3, 10, 50)
_KV_BYTES = 128 << 20


@dataclass(frozen=True)
class Row:
    """Bytes. `measured_instances`: how many separate ones really ran."""

    num_adapters: int
    shared_bytes: int
    separate_bytes: int
    measured_instances: int


def main(
    layers: Layers = 22,
    instances: Annotated[int, typer.Option(help="Separate ones to run at once.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Measures 3, 10 and 50 adapters of rank 64."""
    with tempfile.TemporaryDirectory() as root:
        model_path = write_tinyllama(Path(root) / "model", layers)
        spec = read_spec(model_path)
        adapter = write_adapter(Path(root) / "adapter", spec, _RANK, 0, torch.bfloat16)
        rows = asyncio.run(_measure(model_path, adapter, instances))
    if as_json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        _print(rows, layers)


async def _measure(model_path: Path, adapter: Path, instances: int) -> list[Row]:
    separate = await _separate_bytes(model_path, adapter, instances)
    rows = []
    for count in _COUNTS:
        engine = await _start(model_path, adapter, count)
        shared = _unique_bytes(engine)
        await engine.close()
        rows.append(Row(count, shared, count * separate // instances, min(count, instances)))
    return rows


async def _separate_bytes(model_path: Path, adapter: Path, instances: int) -> int:
    engines = [await _start(model_path, adapter, 1) for _ in range(instances)]
    total = sum(_unique_bytes(engine) for engine in engines)
    for engine in engines:
        await engine.close()
    return total


async def _start(model_path: Path, adapter: Path, count: int) -> ChildEngineClient:
    """An engine that has answered once with each of `count` adapters, all still resident."""
    adapter_bytes = (adapter / "adapter_model.safetensors").stat().st_size
    arena = _KV_BYTES + int(1.05 * count * adapter_bytes)
    engine = ChildEngineClient(
        EngineConfig(str(model_path), memory_bytes=arena, host_memory_bytes=0, max_model_len=512)
    )
    await engine.start()
    sampling = SamplingOptions(temperature=0.0, max_tokens=2)
    for index in range(count):
        residency = await engine.load_adapter(str(index), adapter, declared_files(adapter))
        assert residency.tier == "device"
        async for _ in engine.generate([5, 6, 7], sampling, str(index), "tenant"):
            pass
    stats = await engine.stats()
    assert all(adapter.tier == "device" for adapter in stats.adapters)
    return engine


def _unique_bytes(engine: ChildEngineClient) -> int:
    assert engine.process_id is not None
    unique: int = psutil.Process(engine.process_id).memory_full_info().uss
    return unique


def _print(rows: list[Row], layers: int) -> None:
    table = Table(title=f"{layers} layers of TinyLlama's shape, bfloat16, adapters of rank {_RANK}")
    for heading in ("adapters", "one shared base", "separate instances", "times"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            *(str(row.num_adapters), format_bytes(row.shared_bytes)),
            f"{format_bytes(row.separate_bytes)} ({row.measured_instances} measured)",
            f"{row.separate_bytes / row.shared_bytes:.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
