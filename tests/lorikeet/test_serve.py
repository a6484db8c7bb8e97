"""`lorikeet serve` as its own process: what it leaves while it runs, and after."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lorikeet import AdminClient, Client
from lorikeet.cli.failures import CommandError
from lorikeet.cli.inference_options import inference_arguments
from lorikeet.rpc.errors import ResourceExhaustedError
from lorikeet.state import STATE_PATH, ServeState
from tests.lorikeet.checkpoint import write_checkpoint

ROOT = Path(__file__).resolve().parent.parent.parent


def start(directory: Path, model: Path, *more: str) -> subprocess.Popen[str]:
    options = ["--port", "0", "--registry-port", "0", "--device", "cpu", "--memory", "32MiB", *more]
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


def test_any_setting_of_inference_is_passed_on_and_unknown_ones_are_named(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "Tiny Llama")
    process = start(
        *(tmp_path, model, "--inference-option", "max_loras=3"),
        *("--inference-option", "prefix_caching=false"),
        *("--inference-option", "tenant-max-requests-per-minute=1"),
    )
    state = wait_for_state(process, tmp_path / STATE_PATH)
    with Client(state.inference, state.tenant_keys["default"]) as client:
        client.generate("the", max_tokens=2)
        with pytest.raises(ResourceExhaustedError):
            client.generate("the", max_tokens=2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output

    refused = start(tmp_path, model, "--inference-option", "max_lorries=3")
    output, _ = refused.communicate(timeout=60)
    assert refused.returncode == 1
    assert "unrecognized arguments: --max-lorries=3" in output
    assert ServeState.read(tmp_path / STATE_PATH) is None


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("listen=0.0.0.0:1", "use --port"),
        ("data_dir=x", "the option of that name"),
        ("max_loras", "write NAME=VALUE"),
        ("=3", "write NAME=VALUE"),
        ("--max-loras=3", "write NAME=VALUE"),
    ],
)
def test_options_that_cannot_be_passed_on_are_refused(option: str, said: str) -> None:
    with pytest.raises(CommandError, match=said):
        list(inference_arguments([option]))


def test_options_become_arguments() -> None:
    given = ["max_loras=3", "prefix_caching=false", "registry-tls=true", "ready_x=a=b"]
    assert list(inference_arguments(given)) == [
        "--max-loras=3",
        "--no-prefix-caching",
        "--registry-tls",
        "--ready-x=a=b",
    ]
