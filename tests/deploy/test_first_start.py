"""What compose runs once after the registry, against a registry that speaks TLS."""

import json
import runpy
import stat
from pathlib import Path

import pytest

from tests.deploy.test_compose import SERVICES
from tests.doctor.conftest import DEMO_BASE, Served, served

__all__ = ["served"]
SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "register_model.py"


def test_the_base_model_is_registered_and_inference_gets_its_key_only(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = runpy.run_path(str(SCRIPT))
    credentials, target = served.data_dir / "credentials.json", tmp_path / "inference.json"
    options = [
        f"--registry={served.target.address}",
        f"--tls-ca={served.authority.cert}",
        f"--model={DEMO_BASE}",
        "--base-model=again",
        "--source=lorikeet/demo-base",
        "--revision=v1",
        f"--credentials={credentials}",
        f"--inference-credentials={target}",
    ]
    for _ in range(2):
        script["register"](script["parse"](options))
    keys = json.loads(credentials.read_text())
    assert json.loads(target.read_text()) == {"inference": keys["inference"]}
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with served.target.admin() as admin:
        assert admin.get_base_model("again").revision == "v1"
    assert not any(key in capsys.readouterr().out for key in keys.values())


def test_compose_gives_the_options_there_are() -> None:
    base_model = SERVICES["base-model"]
    options = {part.partition("=")[0] for part in base_model["command"]}
    parsed = vars(runpy.run_path(str(SCRIPT))["parse"](base_model["command"]))
    assert {name.removeprefix("--").replace("-", "_") for name in options} == set(parsed)
