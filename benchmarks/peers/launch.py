"""How each peer is started: in which environment, with the settings that suit it best."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from benchmarks.engine_process import ROOT, Launch
from benchmarks.peers.driver import Setup

ENVIRONMENTS = ROOT / ".lorikeet" / "peers"


class Peer(StrEnum):
    """`vllm-lora` is vLLM again, with LoRA enabled, which costs it speed without adapters too."""

    transformers = "transformers"
    peft = "peft"
    vllm = "vllm"
    vllm_lora = "vllm-lora"
    llama_cpp = "llama.cpp"


@dataclass(frozen=True)
class Prepared:
    launch: Launch
    setup: Setup


class PeerMissingError(RuntimeError):
    """Its environment is not there; says how to make it."""


def prepare(peer: Peer, model: Path, adapters: Sequence[Path], python: Path | None) -> Prepared:
    """`python` is that of the peer's environment; None: where benchmarks.peers.install puts it.

    Raises PeerMissingError.
    """
    num_threads = len(os.sched_getaffinity(0))
    uses_adapters = peer in (Peer.peft, Peer.vllm_lora)
    paths = [str(path) for path in adapters] if uses_adapters else []
    setup = Setup(str(model), paths, num_threads)
    if peer in (Peer.transformers, Peer.peft):
        return Prepared(Launch("benchmarks.peers.peft_engine", Path(sys.executable)), setup)
    if peer is Peer.llama_cpp:
        python = _existing(python or environment("llama.cpp"), "llama.cpp")
        launch = Launch("benchmarks.peers.llama_cpp_engine", python)
        return Prepared(launch, _gguf(launch, setup, adapters))
    python = _existing(python or environment("vllm"), "vllm")
    return Prepared(
        Launch("benchmarks.peers.vllm_engine", python, _vllm_settings(python, num_threads)), setup
    )


def environment(name: str) -> Path:
    """The Python of the environment that `python -m benchmarks.peers.install NAME` makes."""
    return ENVIRONMENTS / name / "bin" / "python"


def _existing(python: Path, name: str) -> Path:
    if not python.exists():
        command = f"python -m benchmarks.peers.install {name}"
        raise PeerMissingError(f"{name} is not at {python}: run {command}")
    return python


def _vllm_settings(python: Path, num_threads: int) -> dict[str, str]:
    """Every core, which its "auto" does not take, and the OpenMP it is built for."""
    settings = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "4",  # GiB
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{num_threads - 1}",
    }
    openmp = python.parents[1] / "lib" / "libiomp5.so"
    return {**settings, "LD_PRELOAD": str(openmp)} if openmp.exists() else settings


def _gguf(launch: Launch, setup: Setup, adapters: Sequence[Path]) -> Setup:
    """Its files, written beside the checkpoint if they are not there."""
    directory = Path(setup.model).parent / "gguf"
    outputs = [directory / f"{index}.gguf" for index in range(len(adapters))]
    if not all(path.exists() for path in outputs):
        module = "benchmarks.peers.gguf_files"
        paths = (setup.model, directory, *adapters)
        command = [str(launch.python), "-m", module, *map(str, paths)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return Setup(str(directory / "base.gguf"), [str(path) for path in outputs], setup.num_threads)
