"""Checks that need the inference service's settings, in the process `lorikeet doctor` starts."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from inference_service.doctor.__main__ import examine
from lorikeet.rpc.checklist import Checklist
from tests.certificates import Authority
from tests.doctor.conftest import DEMO_BASE, Served, finding, statuses
from tests.registry.process import ROOT


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("LORIKEET_"):
            monkeypatch.delenv(name)


@pytest.fixture
def settings(served: Served, tmp_path: Path) -> dict[str, str]:
    return {
        "model": str(DEMO_BASE),
        "base-model": "demo-base",
        "registry": served.target.address,
        "registry-tls-ca": str(served.authority.cert),
        "credentials": str(served.data_dir / "credentials.json"),
        "data-dir": str(tmp_path / "data"),
        "adapter-disk-budget": "1MiB",
    }


def found(settings: dict[str, str], **changes: str) -> Checklist:
    changed = {**settings, **{name.replace("_", "-"): value for name, value in changes.items()}}
    return examine([f"--{name}={value}" for name, value in changed.items()])


def failed(checklist: Checklist) -> list[str]:
    return [check for check, status in statuses(checklist).items() if status == "failed"]


def test_what_is_well(settings: dict[str, str]) -> None:
    checklist = found(settings)
    assert failed(checklist) == []
    skipped = {check for check, status in statuses(checklist).items() if status == "skipped"}
    assert skipped == {"inference.metrics"}
    assert "principals/inference" in finding(checklist, "upstream.credential").detail
    assert "clocks agree" in finding(checklist, "upstream.clock").detail


def test_settings_that_are_missing_or_wrong(settings: dict[str, str]) -> None:
    assert "registry" in finding(examine([]), "inference.settings").detail
    wrong = finding(found(settings, max_num_seqs="0"), "inference.settings")
    assert "max_num_seqs" in wrong.detail


def test_a_credential_that_the_registry_does_not_know(
    settings: dict[str, str], served: Served, tmp_path: Path
) -> None:
    file = tmp_path / "credentials.json"
    file.write_text('{"inference": "lk_0123456789abcdef_wrong"}')
    checklist = found(settings, credentials=str(file))
    assert failed(checklist) == ["upstream.credential"]
    assert "does not know" in finding(checklist, "upstream.credential").detail
    assert "lk_0123" not in str(checklist.findings)
    file.write_text(json.dumps({"inference": served.tenant("small").api_key}))
    weak = finding(found(settings, credentials=str(file)), "upstream.credential")
    assert "may not act for every tenant" in weak.detail
    missing = found(settings, credentials=str(tmp_path / "none"))
    assert "cannot read" in finding(missing, "upstream.credential").detail


def test_the_layers_below_the_registry(settings: dict[str, str], tmp_path: Path) -> None:
    stranger = str(Authority(tmp_path, "stranger").cert)
    assert failed(found(settings, registry_tls_ca=stranger)) == ["upstream.tls"]
    assert failed(found(settings, registry="127.0.0.1:1")) == ["upstream.reach"]
    assert failed(found(settings, registry="nowhere")) == ["upstream.reach"]


def test_another_model_and_a_broken_one(settings: dict[str, str], tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(DEMO_BASE, copy)
    config = (copy / "config.json").read_text()
    (copy / "config.json").write_text(config.replace('"rope_theta"', '"rope_theta_2"'))
    checklist = found(settings, model=str(copy))
    assert failed(checklist) == ["upstream.base_model"]
    assert "will not start" in finding(checklist, "upstream.base_model").advice
    unknown = found(settings, base_model="other")
    assert "other" in finding(unknown, "upstream.base_model").detail
    next(copy.glob("*.safetensors")).unlink()
    assert "no *.safetensors" in finding(found(settings, model=str(copy)), "inference.model").detail


def test_a_place_without_room_or_rights(settings: dict[str, str], tmp_path: Path) -> None:
    checklist = found(settings, adapter_disk_budget="10000TiB")
    assert failed(checklist) == ["inference.data_dir"]
    assert "lower adapter_disk_budget" in finding(checklist, "inference.data_dir").advice
    file = tmp_path / "file"
    file.touch()
    assert (
        "cannot be written"
        in finding(found(settings, data_dir=str(file)), "inference.data_dir").detail
    )
    assert failed(found(settings, host_memory="10000TiB")) == ["inference.memory"]


@contextmanager
def listening() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_the_metrics_port_of_a_service_that_runs(settings: dict[str, str]) -> None:
    with listening() as service, listening() as metrics:
        checklist = found(settings, listen=service, metrics_listen=metrics)
        assert statuses(checklist)["inference.metrics"] == "ok"
    with listening() as service:
        checklist = found(settings, listen=service, metrics_listen=metrics)
        assert statuses(checklist)["inference.metrics"] == "failed"
    checklist = found(settings, listen=service, metrics_listen=metrics)
    assert "does not run here" in finding(checklist, "inference.metrics").detail


def test_the_command_runs_them_where_the_settings_are(
    settings: dict[str, str], tmp_path: Path
) -> None:
    variables = {
        f"LORIKEET_INFERENCE_{name.upper().replace('-', '_')}": value
        for name, value in settings.items()
    }
    finished = subprocess.run(
        [sys.executable, "-m", "lorikeet.cli", "doctor", "--json"],
        cwd=tmp_path,
        env={**os.environ, **variables, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    findings = {item["check"]: item for item in json.loads(finished.stdout)}
    assert findings["upstream.base_model"]["status"] == "ok"
    assert findings["registry.settings"]["status"] == "skipped"
