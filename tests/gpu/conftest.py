"""What runs on a GPU for real: `make test-gpu`. Without one nothing is skipped; it fails."""

import os
from pathlib import Path

import pytest
import torch

# tests.checkpoints is imported where it is used: it takes seconds, for nothing without a GPU.
RANKS = {"r1": 1, "r8": 8, "r33": 33, "r64": 64}


def pytest_configure(config: pytest.Config) -> None:
    if os.environ["TRITON_INTERPRET"] != "0" or not torch.cuda.is_available():
        raise pytest.UsageError(
            "tests/gpu needs an NVIDIA GPU that PyTorch can use, and there is none: run "
            "`make test-gpu` on a machine that has one"
        )


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cuda", 0)


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.checkpoints import write_checkpoint

    return write_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def adapter_paths(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from tests.checkpoints import write_adapter

    root = tmp_path_factory.mktemp("adapters")
    return {
        name: write_adapter(root / name, model_path, rank, seed=rank)
        for name, rank in RANKS.items()
    }
