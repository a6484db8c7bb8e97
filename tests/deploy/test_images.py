"""The images hold what their services import, and the ignored files stay out."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRA = ("huggingface_hub", "zmq", "safetensors", "tokenizers", "torch", "transformers")


def packages() -> set[str]:
    return {
        name.rstrip("*") for name in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    }


@pytest.mark.parametrize("service", ["registry", "inference"])
def test_a_build_sees_all_it_installs(service: str) -> None:
    dockerfile = (ROOT / "deploy" / f"Dockerfile.{service}").read_text()
    copied = set(re.findall(r"^COPY (\w+) \1$", dockerfile, re.MULTILINE))
    assert copied == packages()
    allowed = set(re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    files = {"constraints.txt", "pyproject.toml", "README.md", "LICENSE"}
    assert allowed == packages() | files
    assert all((ROOT / name).exists() for name in allowed)
    assert "USER 10001:10001" in dockerfile
    assert "--constraint constraints.txt" in dockerfile
    bases = re.findall(r"^FROM (python\S*)", dockerfile, re.MULTILINE)
    assert set(bases) == {"python:3.11.14-slim-bookworm"}


def test_the_registry_and_clients_run_without_what_inference_needs() -> None:
    """As in the registry's image, which is made without the extra."""
    named = {re.split(r"[\[>=;]", entry)[0] for entry in PROJECT["project"]["dependencies"]}
    assert named.isdisjoint({"torch", "transformers", "tokenizers", "safetensors"})
    blocked = "".join(f"sys.modules[{name!r}] = None;" for name in EXTRA)
    modules = "registry_service.__main__, registry_service.doctor.__main__, lorikeet.cli"
    code = f"import sys;{blocked}import {modules}, lorikeet.rpc.probe"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
