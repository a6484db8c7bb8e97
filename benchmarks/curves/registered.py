"""Throughput as adapters are registered: 1 to 2,000, and adapters at all against none.

16 requests at once, 64 tokens in and 32 out, adapters of rank 8 of the attention's projections as
in S-LoRA's figures, or of all seven linear modules (`registered-all`). One engine for each number
of registered adapters; their runs alternate. Ratios are medians of the ratios, in the same round,
to 5 registered adapters, or without requests for adapters to an engine that knows none.
"""

import itertools
import random
import statistics
from dataclasses import dataclass

from benchmarks.closed_loop import Shape, Throughput, load_all, run_closed_loop
from benchmarks.curves.curve import Curve, Point
from benchmarks.curves.decoding import rounds
from benchmarks.curves.setting import Setting
from inference_service.engine.engine import Engine
from lorikeet.load.popularity import zipf

_NUM_FILES = 20  # distinct directories; the engine knows adapters by digest and loads each one
_RANK = 8
_NUM_REQUESTS = 32
_SHAPE = Shape()
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True)
class Scenario:
    """`num_known` adapters are registered; requests are for `num_requested` of them, zipf 1."""

    num_known: int
    num_requested: int
    name: str = ""
    bar: float | None = None  # of the ratio

    @property
    def is_drawn(self) -> bool:
        return 0 < self.num_known == self.num_requested


_NONE = Scenario(0, 0, "base only, none registered")
_FEW = Scenario(5, 5)
SCENARIOS = (
    _NONE,
    Scenario(50, 0, "base only, 50 resident", bar=0.99),
    Scenario(1, 1),
    _FEW,
    Scenario(50, 50),
    Scenario(2000, 5, "2,000 registered, the same 5 requested"),
    Scenario(2000, 2000, bar=0.97),
)


def measure(setting: Setting) -> list[Curve]:
    return [_curve(setting, "registered", "the attention's projections", _ATTENTION)]


def measure_all_modules(setting: Setting) -> list[Curve]:
    return [_curve(setting, "registered-all", "all linear modules", ())]


def _curve(setting: Setting, name: str, what: str, modules: tuple[str, ...]) -> Curve:
    results = _run(setting, modules)
    points = [_point(setting, modules, scenario, results) for scenario in SCENARIOS]
    title = f"{_SHAPE.concurrency} at once, zipf 1, adapters of {what}"
    return Curve(name, title, "registered", "tokens/s", points, "floor")


def _run(setting: Setting, modules: tuple[str, ...]) -> dict[Scenario, list[Throughput]]:
    engines: dict[int, Engine] = {}
    for count in sorted({scenario.num_known for scenario in SCENARIOS}):
        engines[count] = setting.engine()
        paths = [setting.adapter(_RANK, seed % _NUM_FILES, modules) for seed in range(count)]
        load_all(engines[count], [(str(i), str(path)) for i, path in enumerate(paths)])
    results: dict[Scenario, list[Throughput]] = {scenario: [] for scenario in SCENARIOS}
    for number in rounds(setting):
        for scenario in SCENARIOS:
            digests = _digests(scenario.num_requested, seed=number)
            result = run_closed_loop(engines[scenario.num_known], digests, _SHAPE)
            if number:
                results[scenario].append(result)
    for engine in engines.values():
        engine.close()
    return results


def _digests(num_adapters: int, seed: int) -> list[str]:
    if num_adapters == 0:
        return [""] * _NUM_REQUESTS
    indices = zipf(random.Random(seed), num_adapters)
    return [str(index) for index in itertools.islice(indices, _NUM_REQUESTS)]


def _point(
    setting: Setting,
    modules: tuple[str, ...],
    scenario: Scenario,
    results: dict[Scenario, list[Throughput]],
) -> Point:
    reference = _FEW if scenario.num_requested else _NONE
    mine, theirs = results[scenario], results[reference]
    ratios = [a.tokens_per_second / b.tokens_per_second for a, b in zip(mine, theirs, strict=True)]
    ratio = statistics.median(ratios)
    rate = statistics.median(result.tokens_per_second for result in mine)
    adapters, fewest = (
        statistics.median(result.mean_adapters for result in side) for side in (mine, theirs)
    )
    floor = _floor(setting, modules, adapters)
    both = {"measured": rate, "floor": floor}
    figures = {
        "adapters in a batch": adapters,
        "ratio": ratio,
        "ratio of floors": floor / _floor(setting, modules, fewest),
        "of floor": rate / floor,
    }
    if not scenario.is_drawn:
        figures = {f"{name}, tokens/s": value for name, value in both.items()} | figures
    return Point(
        scenario.num_known,
        both if scenario.is_drawn else {},
        figures,
        scenario.name,
        "" if scenario.bar is None else f"ratio ≥ {scenario.bar}",
        None if scenario.bar is None else ratio >= scenario.bar,
    )


def _floor(setting: Setting, modules: tuple[str, ...], num_adapters: float) -> float:
    """Tokens a second when each batch has `num_adapters`."""
    work, shape = setting.work, _SHAPE
    num, rows = shape.concurrency, shape.prompt_tokens
    prefill = setting.floor.seconds(
        *work.base(rows, 1), work.adapters(_RANK, min(num_adapters, 1), rows, modules)
    )
    step = setting.floor.seconds(
        *work.base(num, num),
        work.decode_attention(num, rows + shape.new_tokens / 2),
        work.adapters(_RANK, num_adapters, num if num_adapters else 0, modules),
    )
    new = shape.new_tokens
    return num * new / (num * prefill + (new - 1) * step)
