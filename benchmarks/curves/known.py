"""100 to 100,000 registered adapters in the tables of an engine and of its front end.

The model and its adapters are tiny, so that a step is little else than the engine's own Python:
what grows with the number of known adapters shows here, and nowhere in a model of use. All but
sixteen are known and were never loaded, as those are that left the arena and the host's memory.
"""

import time
import tracemalloc
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from benchmarks.closed_loop import load_all
from benchmarks.curves.curve import Curve, Point
from benchmarks.curves.decoding import Batch, medians
from benchmarks.curves.setting import Setting
from benchmarks.synthetic import TINYLLAMA, write_adapter, write_llama
from inference_service.adapters.artifact import Artifact, ArtifactFile, Profile, ResolvedAdapter
from inference_service.engine.adapter_loader import AdapterSource
from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.engine.request import DeclaredFile, GetStats, Pin, Unpin
from inference_service.known_adapters import KnownAdapters
from inference_service.models.families import read_spec

_COUNTS = (100, 1000, 10_000, 100_000)
_RESIDENT = [str(number) for number in range(16)]
_FILES = {"adapter_config.json": 400, "adapter_model.safetensors": 1_000_000}
_PROFILE = Profile()
_TINY = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 512}
_HEADS = {"num_attention_heads": 1, "num_key_value_heads": 1}


class _KnowingEngine(Engine):
    """Can be told of adapters without loading each, which takes milliseconds."""

    def know(self, sources: Iterable[tuple[str, AdapterSource]]) -> None:
        for digest, source in sources:
            self._memory.adapters.add(digest, source)


def measure(setting: Setting) -> list[Curve]:
    engines = {count: _engine(setting) for count in _COUNTS}
    engine_bytes = {c: _kept_bytes(partial(_know, engines[c], c)) / c for c in _COUNTS}
    front_end_bytes = {c: _kept_bytes(partial(_remember, c)) / c for c in _COUNTS}
    seconds = medians(
        {
            (what, count): partial(measured, engine)
            for count, engine in engines.items()
            for what, measured in _MEASURED.items()
        },
        setting,
    )
    for engine in engines.values():
        engine.close()
    times = [
        Point(count, {what: 1e6 * seconds[what, count] for what in _MEASURED}) for count in _COUNTS
    ]
    memory = [
        Point(count, {"engine": engine_bytes[count], "front end": front_end_bytes[count]})
        for count in _COUNTS
    ]
    title = "Adapters that an engine knows and does not hold"
    return [
        Curve("known", title, "known adapters", "µs", times),
        Curve("known-memory", title, "known adapters", "bytes each", memory),
    ]


def _engine(setting: Setting) -> _KnowingEngine:
    model, adapter = setting.root / "tiny", setting.root / "tiny-adapter"
    if not model.exists():
        write_llama(model, TINYLLAMA | _TINY | _HEADS)
        write_adapter(adapter, read_spec(model), 8, 0)
    engine = _KnowingEngine(EngineConfig(str(model), memory_bytes=16 << 20, max_model_len=512))
    load_all(engine, [(digest, str(adapter)) for digest in _RESIDENT])
    return engine


def _know(engine: _KnowingEngine, count: int) -> object:
    """As the front end tells it of each: a directory and its files' digests of its own."""
    engine.know(
        (digest, AdapterSource(Path("/var/lib/lorikeet/adapters", digest), files))
        for digest in map(_digest, range(count))
        for files in [{name: DeclaredFile(size, _digest(size)) for name, size in _FILES.items()}]
    )
    return engine


def _remember(count: int) -> object:
    """What the front end keeps of adapters it has resolved once."""
    known = KnownAdapters()
    for number in range(count):
        files = tuple(ArtifactFile(name, size, _digest(size)) for name, size in _FILES.items())
        name = f"tenants/acme/adapters/bot-{number}/versions/1"
        artifact = Artifact(name, _digest(number), files)
        known.add(ResolvedAdapter("acme", artifact, _PROFILE))
    return known


def _digest(number: int) -> str:
    return f"sha256:{number:064x}"


def _kept_bytes(fill: Callable[[], object]) -> float:
    """What Python's allocator has handed out for what `fill` leaves behind."""
    tracemalloc.start()
    kept = fill()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return size


def _step(engine: Engine) -> float:
    return Batch(_RESIDENT, num_steps=40).seconds_per_step(engine)


def _stats(engine: Engine) -> float:
    return _seconds(lambda: engine.handle(GetStats(1)))


def _pin(engine: Engine) -> float:
    seconds = _seconds(lambda: engine.handle(Pin(1, _RESIDENT[0])))
    engine.handle(Unpin(1, _RESIDENT[0]))
    return seconds


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


_MEASURED = {
    f"a step of {len(_RESIDENT)}": _step,
    "statistics, as at a scrape": _stats,
    "a pin": _pin,
}
