"""What the machine lets a service do."""

import resource
import shutil
from pathlib import Path

import psutil

from lorikeet.rpc.checklist import CheckFailed, Checklist

_MIN_FILES = 4096
_MIN_DISK_BYTES = 5 * 2**30
_MIN_MEMORY_BYTES = 2**30


def check_machine(checklist: Checklist, data_dir: Path) -> None:
    """Adds `machine.*`; `data_dir` is where a service keeps its files, or will."""
    checklist.run("machine.files", "machine", _open_files)
    checklist.run("machine.disk", "machine", lambda: _disk(data_dir))
    checklist.run("machine.memory", "machine", _memory)


def _open_files() -> str:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _MIN_FILES:
        raise CheckFailed(
            f"a process may open {soft} files",
            f"raise it to {_MIN_FILES} or more (ulimit -n; the hard limit is {hard})",
        )
    return f"{soft} open files a process"


def _disk(data_dir: Path) -> str:
    place = next(
        path for path in (data_dir.resolve(), *data_dir.resolve().parents) if path.exists()
    )
    free = shutil.disk_usage(place).free
    if free < _MIN_DISK_BYTES:
        raise CheckFailed(
            f"{place} has {free / 2**30:.1f} GiB left",
            f"make {_MIN_DISK_BYTES / 2**30:.0f} GiB free: uploads and cached adapters lie there",
        )
    return f"{free / 2**30:.0f} GiB free at {place}"


def _memory() -> str:
    available = psutil.virtual_memory().available
    if available < _MIN_MEMORY_BYTES:
        raise CheckFailed(
            f"{available / 2**30:.2f} GiB of memory left", "stop something, or add memory"
        )
    return f"{available / 2**30:.0f} GiB of memory available"
