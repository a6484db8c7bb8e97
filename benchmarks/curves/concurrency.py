"""1 to 256 sequences that decode: tokens a second, and the time between two of one sequence."""

from functools import partial

from benchmarks.closed_loop import load_all
from benchmarks.curves.curve import Curve, Point
from benchmarks.curves.decoding import Batch, medians
from benchmarks.curves.setting import Setting

_COUNTS = (1, 4, 16, 64, 256)
_NUM_ADAPTERS = 16
_RANK = 16
_BASE, _MIXED = "base only", f"{_NUM_ADAPTERS} adapters"


def measure(setting: Setting) -> list[Curve]:
    engine = setting.engine(max_num_seqs=max(_COUNTS))
    path = str(setting.adapter(_RANK))
    load_all(engine, [(str(number), path) for number in range(_NUM_ADAPTERS)])
    seconds = medians(
        {
            (count, kind): partial(_batch(count, kind).seconds_per_step, engine)
            for count in _COUNTS
            for kind in (_BASE, _MIXED)
        },
        setting,
    )
    engine.close()
    floors = {count: _floor(setting, count) for count in _COUNTS}
    pairs = [(count, {kind: seconds[count, kind] for kind in (_BASE, _MIXED)}) for count in _COUNTS]
    title = f"Decoding, {_NUM_ADAPTERS} adapters of rank {_RANK}"
    floor = f"floor of {_MIXED}"
    rates = [
        Point(
            count,
            {**{kind: count / s for kind, s in both.items()}, floor: count / floors[count]},
            {"of floor": floors[count] / both[_MIXED], "of base": both[_BASE] / both[_MIXED]},
        )
        for count, both in pairs
    ]
    times = [
        Point(count, {**{k: 1000 * s for k, s in both.items()}, floor: 1000 * floors[count]})
        for count, both in pairs
    ]
    return [
        Curve("concurrency", title, "sequences", "tokens/s", rates, floor),
        Curve("concurrency-step", title, "sequences", "ms between tokens", times, floor),
    ]


def _batch(count: int, kind: str) -> Batch:
    is_mixed = kind == _MIXED
    return Batch([str(n % _NUM_ADAPTERS) if is_mixed else "" for n in range(count)], num_steps=5)


def _floor(setting: Setting, count: int) -> float:
    work = setting.work
    adapters = work.adapters(_RANK, min(count, _NUM_ADAPTERS), count)
    return setting.floor.seconds(
        *work.base(count, count), work.decode_attention(count, 40), adapters
    )
