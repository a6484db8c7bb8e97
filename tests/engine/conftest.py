"""One random checkpoint and adapters of many ranks, shared by the engine's tests."""

from pathlib import Path

import pytest

from tests.checkpoints import write_adapter, write_checkpoint

RANKS = {"r1": 1, "r3": 3, "r12": 12, "r33": 33, "r64": 64}


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def adapter_paths(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By name: every rank of RANKS, one rsLoRA, one with patterns, one of some modules only."""
    root = tmp_path_factory.mktemp("adapters")
    paths = {
        name: write_adapter(root / name, model_path, rank, seed=rank)
        for name, rank in RANKS.items()
    }
    paths["rslora"] = write_adapter(root / "rslora", model_path, 8, use_rslora=True, lora_alpha=4)
    paths["patterns"] = write_adapter(
        root / "patterns",
        model_path,
        4,
        rank_pattern={"q_proj": 20, r"layers\.1\.mlp\.down_proj": 7},
        alpha_pattern={"o_proj": 3},
    )
    paths["partial"] = write_adapter(
        root / "partial", model_path, 16, target_modules=["q_proj", "v_proj"]
    )
    return paths
