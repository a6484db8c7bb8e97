"""Ends the servers of a run when the run is over, however it ends.

A process of its own: it is told the servers' pids through a pipe, and when the pipe closes (the
test run ended, or was killed) it kills what is left of them and removes the run's directory.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import psutil

ROOT = Path(__file__).resolve().parents[2]
SECONDS_TO_DIE = 10


class Guard:
    """Owns the directory of one run, and the process that tidies up behind it."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="lorikeet-servers-"))
        self.directory.chmod(0o711)  # PostgreSQL runs as another user when we are root
        self._servers: list[subprocess.Popen[bytes]] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.guard", str(self.directory)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,  # Ctrl-C at the terminal is not for it
        )

    def watch(self, server: "subprocess.Popen[bytes]") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{server.pid}\n")
        self._servers.append(server)

    def close(self) -> None:
        """Everything that was watched has ended when this returns."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        for server in self._servers:
            server.wait(timeout=SECONDS_TO_DIE)

    def __enter__(self) -> "Guard":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def family(process: psutil.Process) -> list[psutil.Process]:
    """A process, if it runs, and then everything below it."""
    try:
        if not process.is_running():
            return []
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """With everything below them; a stopped process dies too."""
    doomed = [member for process in processes for member in family(process)]
    for process in doomed:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    deadline = time.monotonic() + SECONDS_TO_DIE
    while any(map(is_alive, doomed)) and time.monotonic() < deadline:
        time.sleep(0.01)


def is_alive(process: psutil.Process) -> bool:
    """False for one that is dead but not yet waited for by its parent."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def main(directory: str) -> None:
    watched: list[psutil.Process] = []
    for line in sys.stdin:
        try:
            watched.append(psutil.Process(int(line)))
        except psutil.NoSuchProcess:
            continue
    kill_all(watched)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
