"""The registry as a process of its own, for the tests that kill it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile

ROOT = Path(__file__).resolve().parents[2]


class Process:
    """`python -m registry_service` on one data directory, in this environment and `environment`."""

    def __init__(
        self, data_dir: Path, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.ready = data_dir.parent / "ready.json"
        self.ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "registry_service", "--data-dir", str(data_dir)]
        command += ["--ready-file", str(self.ready), "--listen", "127.0.0.1:0", *arguments]
        # A file, not a pipe: a pipe that nobody reads is full after some hundred lines of log.
        with NamedTemporaryFile(dir=data_dir.parent, suffix=".log", delete=False) as log:
            self._log = Path(log.name)
            self.popen = subprocess.Popen(
                command, cwd=ROOT, stderr=log, env={**os.environ, **(environment or {})}
            )

    @property
    def errors(self) -> str:
        """What it has logged so far."""
        return self._log.read_text()

    def wait_ready(self) -> str:
        deadline = time.monotonic() + 30
        while not self.ready.exists():
            assert self.popen.poll() is None, self.errors
            assert time.monotonic() < deadline, "the registry did not become ready"
            time.sleep(0.02)
        written = json.loads(self.ready.read_text())
        assert written["pid"] == self.popen.pid
        address: str = written["address"]
        return address

    def stop(self, number: int) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(timeout=20)
