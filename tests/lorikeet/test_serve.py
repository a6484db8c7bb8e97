"""`lorikeet serve` as its own process: what it leaves while it runs, and after."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lorikeet import AdminClient, Client
from lorikeet.state import STATE_PATH, ServeState
from tests.lorikeet.checkpoint import write_checkpoint

ROOT = Path(__file__).resolve().parent.parent.parent


def start(directory: Path, model: Path) -> subprocess.Popen[str]:
    options = ["--port", "0", "--registry-port", "0", "--device", "cpu", "--memory", "32MiB"]
    return subprocess.Popen(
        [sys.executable, "-m", "lorikeet.cli", "serve", "--model", str(model), *options],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_state(process: subprocess.Popen[str], path: Path) -> ServeState:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        state = ServeState.read(path)
        if state is not None:
            return state
        time.sleep(0.05)
    process.kill()
    pytest.fail(process.communicate()[0])


def test_serve_runs_twice_with_the_same_key_and_leaves_nothing_running(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "Tiny Llama")
    keys = []
    for _ in range(2):
        process = start(tmp_path, model)
        state = wait_for_state(process, tmp_path / STATE_PATH)
        keys.append(state.tenant_keys["default"])
        with AdminClient(state.registry, state.admin_key) as admin:
            (base_model,) = admin.list_base_models()
        assert base_model.name == "baseModels/tiny-llama"
        assert str(model) in base_model.known_as
        with Client(state.inference, keys[-1]) as client:
            assert client.generate("the", max_tokens=2).usage.completion_tokens == 2
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 0, output
        assert len([line for line in output.splitlines() if line.startswith("  ")]) == 3
        assert ServeState.read(tmp_path / STATE_PATH) is None
    assert keys[0] == keys[1]
