"""What compose runs once after the registry, against a registry that speaks TLS."""

import json
import runpy
import stat
from pathlib import Path

import pytest

from tests.doctor.conftest import DEMO_BASE, Served, served

__all__ = ["served"]
SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "register_model.py"


def test_the_base_model_is_registered_and_inference_gets_its_key_only(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register = runpy.run_path(str(SCRIPT))["register"]
    credentials, target = served.data_dir / "credentials.json", tmp_path / "inference.json"
    for _ in range(2):
        register(
            *(served.target.address, served.authority.cert, DEMO_BASE, "again"),
            *(credentials, target),
        )
    keys = json.loads(credentials.read_text())
    assert json.loads(target.read_text()) == {"inference": keys["inference"]}
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with served.target.admin() as admin:
        assert admin.get_base_model("again").revision == "main"
    assert not any(key in capsys.readouterr().out for key in keys.values())
