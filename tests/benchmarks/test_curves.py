"""The curves' floors are those of the files that are read, and a family can be measured."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from benchmarks.curves import known
from benchmarks.curves.curve import Curve, beside_floor
from benchmarks.curves.floor import Floor, Rates, StepWork, Work
from benchmarks.curves.setting import Setting
from benchmarks.synthetic import TINYLLAMA, write_adapter, write_llama
from inference_service.models.families import read_spec

SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 512}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


def num_bytes(path: Path, without: tuple[str, ...] = ()) -> int:
    with safe_open(path, "pt") as file:
        tensors = [file.get_tensor(name) for name in file.keys() if not name.endswith(without)]  # noqa: SIM118
    return sum(tensor.nbytes for tensor in tensors)


def test_a_step_reads_the_files_it_is_made_of(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "model", TINYLLAMA | SMALL | HEADS)
    work = StepWork(read_spec(model))
    adapter = write_adapter(tmp_path / "adapter", work.spec, 8, 0, torch.bfloat16)
    layers, head = work.base(16, 4)
    products = num_bytes(model / "model.safetensors", ("norm.weight", "embed_tokens.weight"))
    assert layers.num_bytes + head.num_bytes == products
    assert layers.num_flops == 16 * layers.num_bytes
    assert head.num_flops == 4 * head.num_bytes
    assert work.adapters(8, 3, 16).num_bytes == 3 * num_bytes(adapter / "adapter_model.safetensors")


def test_parts_follow_each_other_and_each_takes_the_longer_of_bytes_and_arithmetic() -> None:
    rates = Rates(bytes_per_second=1e9, flops_per_second=1e9)
    assert rates.seconds(Work(2e9, 1e9), Work(1e9, 4e9)) == 2 + 4


def test_growth_is_told_as_a_multiple_of_the_floors(tmp_path: Path) -> None:
    points = beside_floor({1.0: 0.010, 2.0: 0.016}, {1.0: 0.008, 2.0: 0.011})
    assert points[1].figures["growth"] == pytest.approx(2)
    curve = Curve("some", "Some", "things", "ms", points, "floor")
    assert [row.name for row in curve.rows()] == ["1 things", "2 things"]
    assert curve.rows()[0].figures["measured, ms"] == pytest.approx(10)
    curve.draw(tmp_path)
    assert "<svg" in (tmp_path / "some.svg").read_text()


def test_known_adapters_are_counted_and_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "_COUNTS", (20, 40))
    times, memory = known.measure(Setting(tmp_path, layers=1, rounds=1, floor=Floor()))
    assert [point.x for point in times.points] == [20, 40]
    assert all(value > 0 for point in times.points for value in point.drawn.values())
    assert all(300 < value < 5000 for point in memory.points for value in point.drawn.values())
