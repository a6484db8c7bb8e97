"""A decode step of 64 sequences that share 1 to 64 adapters of rank 16."""

from functools import partial

from benchmarks.closed_loop import load_all
from benchmarks.curves.curve import Curve, beside_floor
from benchmarks.curves.decoding import Batch, medians
from benchmarks.curves.setting import Setting

_NUM_SEQUENCES = 64
_COUNTS = (1, 2, 4, 8, 16, 32, 64)
_RANK = 16


def measure(setting: Setting) -> list[Curve]:
    engine = setting.engine()
    path = str(setting.adapter(_RANK))
    load_all(engine, [(str(number), path) for number in range(max(_COUNTS))])
    measured = medians(
        {float(count): partial(_batch(count).seconds_per_step, engine) for count in _COUNTS},
        setting,
    )
    engine.close()
    work, num = setting.work, _NUM_SEQUENCES
    others = (*work.base(num, num), work.decode_attention(num, 40))
    floors = {x: setting.floor.seconds(*others, work.adapters(_RANK, x, num)) for x in measured}
    return [
        Curve(
            "distinct",
            f"A decode step of {num} sequences, adapters of rank {_RANK}",
            "distinct adapters",
            "ms",
            beside_floor(measured, floors),
            "floor",
        )
    ]


def _batch(count: int) -> Batch:
    return Batch([str(number % count) for number in range(_NUM_SEQUENCES)])
