"""A server process that tests may pause, kill and start again."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.servers.guard import Guard, family, kill_all

SECONDS_TO_START = 60
SECONDS_TO_STOP = 10


class ServerFailedError(RuntimeError):
    """A server ended, or does not answer; the message has the end of its output."""


def free_port() -> int:
    """A port nobody listens on now. Outside the range that outgoing connections get theirs from,
    so that a server which was killed finds its port free when it comes back."""
    for port in _candidate_ports():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServerFailedError("no free port between 10000 and 32000")


def _candidate_ports() -> list[int]:
    start = int.from_bytes(os.urandom(2), "big") % 22000
    return [10000 + (start + step) % 22000 for step in range(200)]


@dataclass
class ServerProcess:
    """`command`, run in `directory` with its output in `<name>.log` there."""

    name: str
    command: Sequence[str]
    directory: Path
    environment: Mapping[str, str]
    guard: Guard
    stop_signal: signal.Signals = signal.SIGTERM
    _popen: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"

    @property
    def pid(self) -> int:
        assert self._popen is not None, f"{self.name} was not started"
        return self._popen.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                self.command,
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C ends the run, and the run ends its servers
            )
        self.guard.watch(self._popen)

    def wait_for(self, is_ready: Callable[[], bool]) -> None:
        """Until `is_ready`, asked every 20 ms; raises ServerFailedError when it will not be."""
        deadline = time.monotonic() + SECONDS_TO_START
        while not is_ready():
            assert self._popen is not None
            if self._popen.poll() is not None:
                raise ServerFailedError(f"{self.name} ended:\n{self.end_of_log()}")
            if time.monotonic() > deadline:
                raise ServerFailedError(
                    f"{self.name} does not answer after {SECONDS_TO_START} s:\n{self.end_of_log()}"
                )
            time.sleep(0.02)

    def end_of_log(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def pause(self) -> None:
        """SIGSTOP to the process and all below it: connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to the process and all below it."""
        assert self._popen is not None
        kill_all([psutil.Process(self.pid)])
        self._popen.wait(timeout=SECONDS_TO_STOP)

    def stop(self) -> None:
        """In order if it can, paused or not; killed after 10 s."""
        if self._popen is None or self._popen.poll() is not None:
            return
        self.resume()
        self._popen.send_signal(self.stop_signal)
        try:
            self._popen.wait(timeout=SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            self.kill()

    def _signal(self, number: int) -> None:
        for process in family(psutil.Process(self.pid)):  # the first one forks the others
            with suppress(psutil.NoSuchProcess):  # a connection of PostgreSQL's that just ended
                process.send_signal(number)


def run_to_end(command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> str:
    """Output of a command that must succeed within a minute."""
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS_TO_START,
    )
    if done.returncode:
        raise ServerFailedError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}")
    return done.stdout
