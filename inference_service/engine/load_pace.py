"""How fast adapters are loaded while steps run: slower, where both need the same processors.

A step's threads wait for each other at every layer: work on one of their processors holds up all.
So a load works in slices of less than a millisecond, and rests in between. A low priority would
not do: a thread that is not run when it has the interpreter's lock holds up the step for longer.
"""

import os
import sys
from collections.abc import Callable
from time import sleep, thread_time

import torch

Rest = Callable[[], None]

# Of one processor, while steps run: they take longer by as much, loads the reciprocal.
SHARE = 0.2
_SLICE_SECONDS = 0.0005


def no_rest() -> None:
    """For work that is in nobody's way."""


class LoadPace:
    """The engine's thread says when steps run; loads ask, on threads of their own."""

    def __init__(self, fills_processors: bool) -> None:
        """`fills_processors`: steps take all there are. Otherwise loads never rest."""
        self.fills_processors = fills_processors
        self.steps_run = False

    def begin(self) -> Rest:
        """A load begins on this thread. What it is to call between any two pieces of work."""
        return _Slices(self).rest


class _Slices:
    """The work of one thread; slices are processor time, not what it waited."""

    def __init__(self, pace: LoadPace) -> None:
        self._pace = pace
        self._began = thread_time()

    def rest(self) -> None:
        worked = thread_time() - self._began
        if worked < _SLICE_SECONDS:
            return
        if self._pace.steps_run and self._pace.fills_processors:
            sleep(worked * (1 / SHARE - 1))
        self._began = thread_time()


def steps_fill_processors() -> bool:
    """Whether torch computes with as many threads as there are processors for this process."""
    return torch.get_num_threads() >= _num_processors()


def _num_processors() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
