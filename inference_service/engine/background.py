"""Threads for work that must not slow down the step that runs meanwhile."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import torch

# A step's threads wait for each other at every layer: one of them held up by a load holds up all.
_NICENESS = 10


def background_executor(name: str) -> ThreadPoolExecutor:
    """One thread, which yields to those of the engine where the processor is busy."""
    return ThreadPoolExecutor(1, name, initializer=_step_back)


def _step_back() -> None:
    torch.set_num_threads(1)  # the others are the step's
    if sys.platform == "linux":  # elsewhere a priority is the whole process's
        thread = threading.get_native_id()
        niceness = max(_NICENESS, os.getpriority(os.PRIO_PROCESS, thread))
        os.setpriority(os.PRIO_PROCESS, thread, niceness)
