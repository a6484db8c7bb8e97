"""One service as a child process: started, awaited, and stopped with everything it started."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_POLL_SECONDS = 0.02
_LOG_TAIL_LINES = 20


class ServiceFailedError(RuntimeError):
    """A service ended, or did not become ready; the message ends with the tail of its log."""


class ServiceProcess:
    """`python -m <module>` in a session of its own.

    Its own session keeps a terminal's Ctrl-C from reaching it, so that the launcher decides the
    order in which services stop. The child is not reaped before `stop`: until then its process
    group id cannot be given to anyone else, so signalling the group reaches only our processes.
    Its standard input is a pipe that nobody writes to: when this process ends, however it ends, so
    does the pipe, and with it the service.
    """

    def __init__(self, module: str, arguments: Sequence[str], run_dir: Path) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self.module = module
        self.log_path = run_dir / f"{module}.log"
        self._ready_path = run_dir / f"{module}.ready.json"
        self._ready_path.unlink(missing_ok=True)
        command = [sys.executable, "-m", module, *arguments]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--ready-file", str(self._ready_path), "--stop-with-stdin"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        if self._process.returncode is not None:
            return False
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, self.pid, flags) is None
        except ChildProcessError:  # another thread has just stopped it
            return False

    def wait_until_ready(self, timeout: float) -> str:
        """Waits for the ready file and a SERVING health; returns the address."""
        deadline = time.monotonic() + timeout
        while not self._ready_path.exists():
            self._check(deadline, "did not become ready")
        address = str(json.loads(self._ready_path.read_text())["address"])
        with grpc.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while not _is_serving(stub):
                self._check(deadline, "did not become healthy")
        return address

    def stop(self, grace: float) -> None:
        """SIGTERM, `grace` seconds, then SIGKILL to whatever is left of its process group."""
        if self._process.returncode is not None:
            return
        if self.is_running:
            self._process.terminate()
        deadline = time.monotonic() + grace
        while self.is_running and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()

    def failure(self, what: str) -> ServiceFailedError:
        """The error that says `what` went wrong and what the service logged last."""
        lines = self.log_path.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        tail = "\n  ".join(lines) or "(it logged nothing)"
        return ServiceFailedError(f"{self.module} {what}; {self.log_path} ends with:\n  {tail}")

    def _check(self, deadline: float, what: str) -> None:
        if not self.is_running:
            raise self.failure("ended while starting")
        if time.monotonic() > deadline:
            raise self.failure(what)
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def interrupt_on_sigterm() -> Iterator[None]:
    """Makes SIGTERM end this process as Ctrl-C does, so that it stops what it started."""
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _is_serving(stub: health_pb2_grpc.HealthStub) -> bool:
    try:
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
    except grpc.RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
