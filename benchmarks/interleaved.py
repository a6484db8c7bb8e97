"""Timing of calls that alternate, so that what else the machine does falls on all of them."""

import statistics
import time
from collections.abc import Callable, Sequence
from enum import StrEnum

import torch

_FLUSH_BYTES = 128 << 20  # more than the caches hold


class DType(StrEnum):
    """What is computed in."""

    float32 = "float32"
    bfloat16 = "bfloat16"


def clock() -> float:
    """Seconds: of this thread alone where torch uses no other, so that others' do not count."""
    return time.thread_time() if torch.get_num_threads() == 1 else time.perf_counter()


def median_milliseconds(calls: Sequence[Callable[[], object]], runs: int) -> list[float]:
    """One figure per call, each run with caches that hold none of what it reads."""
    flush = torch.ones(_FLUSH_BYTES // 4)
    seconds: list[list[float]] = [[] for _ in calls]
    for run in range(-2, runs):
        for call, times in zip(calls, seconds, strict=True):
            flush.sum()
            began = clock()
            call()
            if run >= 0:
                times.append(clock() - began)
    return [1000 * statistics.median(times) for times in seconds]


def read_bandwidth(runs: int = 15) -> float:
    """GB/s that reading memory gives with the threads in use: the best of `runs` sums."""
    block = torch.ones(64 << 20)
    seconds = []
    for _ in range(runs):
        began = clock()
        block.sum()
        seconds.append(clock() - began)
    return block.nbytes / min(seconds) / 1e9
