"""What a server costs: processor time, which does not depend on what else a machine does."""

from collections.abc import Iterable

import psutil


def processor_seconds(pids: Iterable[int]) -> float:
    """Of these processes and of everything below them that runs or has been waited for."""
    total = 0.0
    for pid in pids:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += sum(times[:4])  # user and system, its own and of children that ended
    return total
