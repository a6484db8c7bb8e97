"""No artifact ends or stalls the engine: it is applied whole, or it alone is refused."""

import os
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference_service.engine import peft_adapter
from inference_service.engine.adapter_files import AdapterInvalidError
from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.engine.peft_adapter import read_adapter
from inference_service.engine.request import Load, Loaded, Refused, SamplingOptions, Submit, Unload
from inference_service.models.families import read_spec
from inference_service.models.spec import DecoderSpec
from tests.engine.artifacts import CONFIG, WEIGHTS, Artifact, damaged_configs, damaged_weights
from tests.engine.driver import Result, answer, run_to_end

GREEDY = SamplingOptions(temperature=0.0, max_tokens=6)
MAX_RANK = 64


@pytest.fixture(scope="module")
def sound(adapter_paths: dict[str, Path]) -> Artifact:
    return Artifact.read(adapter_paths["r3"])


@pytest.fixture(scope="module")
def spec(model_path: Path) -> DecoderSpec:
    return read_spec(model_path)


@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damage_is_refused_or_the_adapter_is_whole(
    data: st.DataObject, sound: Artifact, spec: DecoderSpec, tmp_path: Path
) -> None:
    artifact = data.draw(damaged_configs(sound) | damaged_weights(sound))
    try:
        matrices = read_adapter(artifact.write(tmp_path), spec, MAX_RANK)
    except AdapterInvalidError:
        return
    assert 2 * len(matrices) == len(artifact.header) - ("__metadata__" in artifact.header)
    for part in matrices:
        in_features, out_features = spec.module_shape(spec.modules[part.module])
        assert part.a.shape == (part.rank, in_features)
        assert part.b.shape == (part.rank, out_features)
        assert part.rank <= MAX_RANK
        assert torch.isfinite(part.a).all()
        assert torch.isfinite(part.b).all()


Break = Callable[[Artifact], Artifact]


def _move_border(artifact: Artifact) -> Artifact:
    """The second tensor begins inside the first: without gap or overlap, but not their sizes."""
    offsets = [entry["data_offsets"] for entry in artifact.header.values() if "dtype" in entry]
    (begin, border), (_, end) = offsets[:2]
    moved = artifact.with_entry(0, data_offsets=[begin, border - 4])
    return moved.with_entry(1, data_offsets=[border - 4, end])


DAMAGE: dict[str, Break] = {
    "a border moved": _move_border,
    "no r": lambda a: a.with_fields(r=None),
    "a deep config": lambda a: Artifact(b'{"r":' + b"[" * 5000 + b"]" * 5000 + b"}", a.weights),
    "a deeper config": lambda a: Artifact(b'{"r":' * 200_000, a.weights),
    "a deep header": lambda a: a.with_header(b'{"x":' + b"[" * 900 + b"]" * 900 + b"}"),
    "a huge number": lambda a: Artifact(b'{"r":' + b"9" * 9999 + b"}", a.weights),
    "a huge alpha": lambda a: a.with_fields(lora_alpha=10**4000),
    "not UTF-8": lambda a: Artifact(b'{"\xff": 1}', a.weights),
    "keys twice": lambda a: Artifact(a.config[:-1] + b',"r":3}', a.weights),
    "a long config": lambda a: Artifact(a.config + b" " * 2_000_000, a.weights),
    "an endless pattern": lambda a: a.with_fields(target_modules="(.*.*)*!"),
    "an endless key": lambda a: a.with_fields(rank_pattern={r"(\w|\w|.)*!": 2, "(" * 900: 3}),
    "a pattern that grows": lambda a: a.with_fields(exclude_modules="((a{999}){999}){999}"),
    "no weights": lambda a: Artifact(a.config, b""),
    "cut weights": lambda a: Artifact(a.config, a.weights[:-1]),
    "more weights": lambda a: Artifact(a.config, a.weights + b"\0"),
    "a header of 2**63": lambda a: Artifact(a.config, b"\0" * 7 + b"\x80" + a.weights),
    "tensors of 2**40": lambda a: a.with_entry(0, shape=[2**20, 2**20], data_offsets=[0, 2**42]),
    "an empty tensor": lambda a: a.with_entry(0, shape=[0, 64], data_offsets=[0, 0]),
    "a number": lambda a: a.with_entry(0, shape=[], data_offsets=[0, 4]),
    "overlapping": lambda a: a.with_entry(1, data_offsets=[0, 3 * 64 * 4]),
    "NaN": lambda a: a.with_header(a.header, b"\xff" * len(a.data)),
    "float8": lambda a: a.with_entry(0, dtype="F8_E4M3"),
    "overflowing": lambda a: a.with_fields(lora_alpha=1e9).with_header(
        a.header, b"\xff\xff\x7f\x7e" * (len(a.data) // 4)
    ),
}


def _replace(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(adapter: Path) -> None:
        (adapter / name).unlink()
        make(adapter / name)

    return damage


# What else than a file can be at a file's place.
PLACES: dict[str, Callable[[Path], None]] = {
    "no directory": shutil.rmtree,
    "no config": _replace(CONFIG, lambda _: None),
    "no weights": _replace(WEIGHTS, lambda _: None),
    "a directory": _replace(WEIGHTS, Path.mkdir),
    "a pipe": _replace(CONFIG, os.mkfifo),
    "a pipe of weights": _replace(WEIGHTS, os.mkfifo),
    "a device": _replace(WEIGHTS, lambda path: path.symlink_to("/dev/zero")),
    "a link": _replace(CONFIG, lambda path: path.symlink_to("/etc/passwd")),
    "a circle": _replace(CONFIG, lambda path: path.symlink_to(path)),
}


class Bench:
    """An engine with a sound adapter, and what it answers while nothing is wrong."""

    def __init__(self, model_path: Path, adapter: Path) -> None:
        config = EngineConfig(
            str(model_path), dtype="float32", memory_bytes=8 << 20, max_lora_rank=MAX_RANK
        )
        self._engine = Engine(config)
        assert isinstance(answer(self._engine, Load(1, "sound", str(adapter))), Loaded)
        self._requests = [
            Submit(number, [5 + number, 9, 23, 4], GREEDY, digest)
            for number, digest in enumerate(["", "sound", "sound", ""])
        ]
        self._want = run_to_end(self._engine, self._requests)

    def refusal_of(self, path: Path) -> str:
        """Loads an adapter and sends it a request amid others; why it was refused, or nothing."""
        reply = answer(self._engine, Load(2, "other", str(path)))
        requests = [*self._requests, Submit(99, [7, 8, 9], GREEDY, "other")]
        results = run_to_end(self._engine, requests)
        result = results.pop(99)
        assert results == self._want
        self._engine.check_integrity()
        if isinstance(reply, Refused):
            assert reply.reason == "ADAPTER_INVALID"
            assert result == Result(refusal="ADAPTER_INVALID")
            return reply.message
        assert isinstance(reply, Loaded)
        assert result.finish_reason or result.refusal == "OUTPUT_NOT_FINITE"
        return ""

    def forget(self) -> None:
        answer(self._engine, Unload(3, "other"))


@pytest.fixture(scope="module")
def bench(model_path: Path, adapter_paths: dict[str, Path]) -> Bench:
    return Bench(model_path, adapter_paths["r12"])


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_adapter_costs_only_its_own_requests(
    bench: Bench, sound: Artifact, spec: DecoderSpec, case: str, tmp_path: Path
) -> None:
    adapter = DAMAGE[case](sound).write(tmp_path / "adapter")
    with pytest.raises(AdapterInvalidError) as refused:
        read_adapter(adapter, spec, MAX_RANK)
    assert bench.refusal_of(adapter) == str(refused.value)
    assert not bench.refusal_of(sound.write(tmp_path / "adapter")), "loaded once it is whole"
    bench.forget()


@pytest.mark.parametrize("case", PLACES)
def test_files_that_are_none_cost_only_their_own_requests(
    bench: Bench, sound: Artifact, spec: DecoderSpec, case: str, tmp_path: Path
) -> None:
    adapter = sound.write(tmp_path / "adapter")
    PLACES[case](adapter)
    num_open = psutil.Process().num_fds()
    with pytest.raises(AdapterInvalidError) as refused:
        read_adapter(adapter, spec, MAX_RANK)
    assert psutil.Process().num_fds() == num_open
    message = bench.refusal_of(adapter)
    assert message == str(refused.value)
    assert "adapter_" in message
    assert "root:" not in message, "what a link points at is not told"
    bench.forget()


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_engine_goes_on_whatever_it_is_given(
    data: st.DataObject, bench: Bench, sound: Artifact, tmp_path: Path
) -> None:
    artifact = data.draw(damaged_configs(sound) | damaged_weights(sound))
    bench.refusal_of(artifact.write(tmp_path))
    bench.forget()


def test_an_error_nobody_foresaw_costs_only_its_own_requests(
    bench: Bench,
    sound: Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A fault of ours in reading, put there: no file is known that causes one."""
    adapter = sound.write(tmp_path / "adapter")
    monkeypatch.setattr(peft_adapter, "_matrices", lambda *_: [][0])
    assert "IndexError" in bench.refusal_of(adapter)
    assert "Traceback" in caplog.text
    monkeypatch.undo()
    assert not bench.refusal_of(adapter)
    bench.forget()


def test_what_the_engines_type_cannot_hold_is_refused(
    sound: Artifact, spec: DecoderSpec, tmp_path: Path
) -> None:
    """1e5 is a number to float32 and bfloat16, and infinite to float16."""
    large = sound.with_header(sound.header, struct.pack("<f", 1e5) * (len(sound.data) // 4))
    large.write(tmp_path)
    for dtype in (torch.float32, torch.bfloat16):
        assert read_adapter(tmp_path, spec, MAX_RANK, dtype)
    with pytest.raises(AdapterInvalidError, match=r"A overflows torch\.float16"):
        read_adapter(tmp_path, spec, MAX_RANK, torch.float16)


def test_declared_sizes_are_not_allocated(
    sound: Artifact, spec: DecoderSpec, tmp_path: Path
) -> None:
    lies = [DAMAGE["tensors of 2**40"](sound), DAMAGE["a header of 2**63"](sound)]
    tracemalloc.start()
    for lie in lies:
        with pytest.raises(AdapterInvalidError):
            read_adapter(lie.write(tmp_path), spec, MAX_RANK)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20
