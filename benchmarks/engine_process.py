"""An engine in a process of its own, asked for one job at a time; see benchmarks.peers.driver."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from benchmarks.peers.driver import Job, Result, Setup

ROOT = Path(__file__).parents[1]
_STOP_SECONDS = 20.0
_SHOWN_CHARACTERS = 3000


class EngineFailedError(RuntimeError):
    """The process ended; the message is what it wrote last."""


@dataclass(frozen=True)
class Launch:
    """Which module of benchmarks drives the engine, in which Python, with what environment."""

    module: str
    python: Path
    environment: dict[str, str] = field(default_factory=dict)


class EngineProcess:
    """Ready once made. `start_seconds`: from the process's start to the first token it made."""

    def __init__(
        self, process: subprocess.Popen[str], began: float, setup: Setup, log: Path
    ) -> None:
        self._process, self._log = process, log
        self._ask(asdict(setup))
        self.run(Job([[3, 4, 5, 6]], [None], 1))
        self.start_seconds = time.perf_counter() - began

    def run(self, job: Job) -> Result:
        """Raises EngineFailedError, also when it did not make all tokens."""
        answer = self._ask(asdict(job))
        result = Result(answer["seconds"], int(answer["num_tokens"]))
        if result.num_tokens != len(job.prompts) * job.new_tokens:
            raise EngineFailedError(f"made {result.num_tokens} tokens")
        return result

    def _ask(self, question: dict[str, object]) -> dict[str, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # what it wrote last follows
        line = self._process.stdout.readline()
        if not line:
            raise EngineFailedError(self._log.read_text()[-_SHOWN_CHARACTERS:])
        answer: dict[str, float] = json.loads(line)
        return answer


@contextmanager
def running(launch: Launch, setup: Setup, log: Path) -> Iterator[EngineProcess]:
    """Starts it, waits for its first token, and at the end stops it and what it started."""
    began = time.perf_counter()
    with log.open("w") as errors:
        process = subprocess.Popen(
            [str(launch.python), "-m", launch.module],
            cwd=ROOT,
            env={**os.environ, **launch.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        yield EngineProcess(process, began, setup, log)
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    """Ends its input and waits; what is left then is killed."""
    started = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    _, left = psutil.wait_procs(started, timeout=_STOP_SECONDS)
    for remaining in left:
        remaining.kill()
    process.wait()
    process.stdout.close()
