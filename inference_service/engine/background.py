"""Threads for work beside the steps of an engine."""

from concurrent.futures import ThreadPoolExecutor

import torch


def background_executor(name: str) -> ThreadPoolExecutor:
    """One thread, on which torch computes with no others: those are the step's.

    What runs there gives way by resting, see LoadPace.
    """
    return ThreadPoolExecutor(1, name, initializer=torch.set_num_threads, initargs=(1,))
