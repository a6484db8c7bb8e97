"""Child processes: how one that fails is reported, and that none is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lorikeet.process import ServiceFailedError, ServiceProcess

_STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""

_LAUNCHER = """
import sys, time
from pathlib import Path
from lorikeet.process import ServiceProcess
service = ServiceProcess("registry_service", sys.argv[2:], Path(sys.argv[1]))
service.wait_until_ready(60)
print(service.pid, flush=True)
time.sleep(60)
"""


def is_alive(pid: int) -> bool:
    """Zombies, which only wait for their parent to notice, are not alive."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_a_service_that_ends_while_starting_shows_its_log(tmp_path: Path) -> None:
    process = ServiceProcess("json.tool", ["no-such-file"], tmp_path)
    try:
        with pytest.raises(ServiceFailedError, match=r"(?s)ended while starting.*can't open"):
            process.wait_until_ready(10)
    finally:
        process.stop(1)


def test_stopping_ends_the_process_and_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stubborn.py").write_text(_STUBBORN)
    monkeypatch.chdir(tmp_path)
    process = ServiceProcess("stubborn", [], tmp_path)
    while not process.log_path.read_text().endswith("\n"):
        assert process.is_running
    child_pid = int(process.log_path.read_text())
    process.stop(0.1)
    assert not process.is_running
    deadline = time.monotonic() + 5
    while is_alive(child_pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_service_ends_when_its_launcher_is_killed(tmp_path: Path) -> None:
    arguments = ["--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data")]
    launcher = subprocess.Popen(
        [sys.executable, "-c", _LAUNCHER, str(tmp_path), *arguments], stdout=subprocess.PIPE
    )
    assert launcher.stdout is not None
    with launcher.stdout:
        service = psutil.Process(int(launcher.stdout.readline()))
    assert service.is_running()
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.wait()
    service.wait(timeout=10)
