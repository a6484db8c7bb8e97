"""Only registered bytes reach memory: each read of an adapter is held to its declared sha256."""

import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from adapter_format.artifact import WEIGHTS_FILE
from adapter_format.config_fields import CONFIG_FILE
from inference_service.engine.adapter_files import declared_files
from inference_service.engine.adapter_loader import AdapterLoader, AdapterSource, LoadedImage
from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.engine.load_pace import LoadPace
from inference_service.engine.page_copier import HostPageCopier
from inference_service.engine.readiness import Refusal
from inference_service.engine.request import Load, Loaded, Refused, SamplingOptions, Submit
from inference_service.models.families import read_spec
from tests.checkpoints import write_adapter
from tests.engine.driver import answer, run_to_end

GREEDY = SamplingOptions(temperature=0.0, max_tokens=5)
NUM_CASES, NUM_COPIES = 10_000, 50


class Reader:
    """The engine's own loader."""

    def __init__(self, model_path: Path) -> None:
        spec = read_spec(model_path)
        page_elems = 4096
        copier = HostPageCopier(torch.zeros(1, page_elems))
        pace = LoadPace(fills_processors=False)
        self._loader = AdapterLoader(spec, page_elems, torch.float32, 64, copier, pace)

    def load(self, *sources: AdapterSource) -> list[LoadedImage | Refusal]:
        """What becomes of each."""
        for number, source in enumerate(sources):
            self._loader.start(str(number), source)
        results: dict[str, LoadedImage | Refusal] = {}
        while len(results) < len(sources):
            results |= dict(self._loader.finished())
            time.sleep(0.001)
        return [results[str(number)] for number in range(len(sources))]

    def close(self) -> None:
        self._loader.close()


@pytest.fixture
def reader(model_path: Path) -> Iterator[Reader]:
    reader = Reader(model_path)
    yield reader
    reader.close()


def test_ten_thousand_damaged_copies_are_all_refused(
    reader: Reader, model_path: Path, tmp_path: Path
) -> None:
    """Bits flipped, ends cut, bytes added, files of another adapter put in their place."""
    numbers = random.Random(5)
    adapter, other = (
        write_adapter(tmp_path / str(seed), model_path, 1, target_modules=["q_proj"], seed=seed)
        for seed in (1, 2)
    )
    files = declared_files(adapter)
    copies = [Path(shutil.copytree(adapter, tmp_path / f"copy{n}")) for n in range(NUM_COPIES)]
    sources = [AdapterSource(copy, files) for copy in copies]
    assert all(isinstance(result, LoadedImage) for result in reader.load(*sources))
    num_refused = 0
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        sound, swapped = (adapter / name).read_bytes(), (other / name).read_bytes()
        for _ in range(NUM_CASES // 2 // NUM_COPIES):
            for copy in copies:
                (copy / name).write_bytes(_damaged(sound, swapped, numbers))
            for result in reader.load(*sources):
                assert isinstance(result, Refusal)
                assert result.reason == "ARTIFACT_CORRUPT"
                num_refused += 1
        for copy in copies:
            (copy / name).write_bytes(sound)
    assert num_refused == NUM_CASES
    assert all(isinstance(result, LoadedImage) for result in reader.load(*sources))


def _damaged(data: bytes, other: bytes, random_numbers: random.Random) -> bytes:
    place = random_numbers.randrange(len(data))
    kind = random_numbers.randrange(4)
    if kind == 0:
        flipped = data[place] ^ (1 << random_numbers.randrange(8))
        return data[:place] + bytes([flipped]) + data[place + 1 :]
    if kind == 1:
        return data[:place]
    if kind == 2 and other != data:
        return other
    return data[:place] + random_numbers.randbytes(3) + data[place:]


def test_a_copy_damaged_between_two_loads_is_refused_and_a_whole_one_taken(
    model_path: Path, adapter_paths: dict[str, Path], tmp_path: Path
) -> None:
    """The engine holds no adapter on the host here: a second use reads the disk again."""
    adapter = Path(shutil.copytree(adapter_paths["r3"], tmp_path / "adapter"))
    config = EngineConfig(
        str(model_path), dtype="float32", memory_bytes=8 << 20, host_memory_bytes=0, max_loras=1
    )
    engine = Engine(config)
    mine = Load(1, "mine", str(adapter), declared_files(adapter))
    other = Load(2, "other", str(adapter_paths["r12"]), declared_files(adapter_paths["r12"]))
    request = Submit(7, [5, 9, 23], GREEDY, "mine")
    assert isinstance(answer(engine, mine), Loaded)
    want = run_to_end(engine, [request])
    assert isinstance(answer(engine, other), Loaded)  # and "mine" has to go
    whole = (adapter / WEIGHTS_FILE).read_bytes()
    (adapter / WEIGHTS_FILE).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    reply = answer(engine, mine)
    assert isinstance(reply, Refused)
    assert reply.reason == "ARTIFACT_CORRUPT"
    assert run_to_end(engine, [request])[7].refusal == "ARTIFACT_CORRUPT"
    (adapter / WEIGHTS_FILE).write_bytes(whole)
    assert isinstance(answer(engine, mine), Loaded)
    assert run_to_end(engine, [request]) == want
    engine.close()


@pytest.mark.parametrize("place", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_file_that_is_gone_or_a_link_is_a_damaged_copy(
    reader: Reader, adapter_paths: dict[str, Path], tmp_path: Path, place: str
) -> None:
    adapter = Path(shutil.copytree(adapter_paths["r3"], tmp_path / "adapter"))
    source = AdapterSource(adapter, declared_files(adapter))
    (adapter / place).unlink()
    (gone,) = reader.load(source)
    (adapter / place).symlink_to(adapter_paths["r3"] / place)
    (linked,) = reader.load(source)
    for result in (gone, linked):
        assert isinstance(result, Refusal)
        assert (result.reason, place in result.message) == ("ARTIFACT_CORRUPT", True)
