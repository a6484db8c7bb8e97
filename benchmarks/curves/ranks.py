"""A decode step of 16 sequences of 16 adapters, all of one rank: 8 to 128."""

from functools import partial

from benchmarks.closed_loop import load_all
from benchmarks.curves.curve import Curve, beside_floor
from benchmarks.curves.decoding import Batch, medians
from benchmarks.curves.setting import Setting

_RANKS = (8, 16, 32, 64, 128)
_NUM_ADAPTERS = 16


def measure(setting: Setting) -> list[Curve]:
    engine = setting.engine()
    for rank in _RANKS:
        load_all(engine, [(digest, str(setting.adapter(rank))) for digest in _digests(rank)])
    measured = medians(
        {float(rank): partial(Batch(_digests(rank)).seconds_per_step, engine) for rank in _RANKS},
        setting,
    )
    engine.close()
    work, num = setting.work, _NUM_ADAPTERS
    others = (*work.base(num, num), work.decode_attention(num, 40))
    floors = {x: setting.floor.seconds(*others, work.adapters(int(x), num, num)) for x in measured}
    return [
        Curve(
            "ranks",
            f"A decode step of {num} sequences with {num} adapters of one rank",
            "rank",
            "ms",
            beside_floor(measured, floors),
            "floor",
        )
    ]


def _digests(rank: int) -> list[str]:
    return [f"rank {rank} number {number}" for number in range(_NUM_ADAPTERS)]
