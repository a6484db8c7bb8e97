"""A random checkpoint of each family with an adapter of all its linear modules, made once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.checkpoints import write_adapter, write_checkpoint
from tests.models.families import FAMILIES


@dataclass(frozen=True)
class Family:
    """Two adapters of unlike rank, so that a batch mixes them."""

    name: str
    model_path: Path
    adapters: dict[str, Path]


@pytest.fixture(scope="session")
def make_family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Family]:
    made: dict[str, Family] = {}

    def make(name: str) -> Family:
        if name not in made:
            made[name] = _write(tmp_path_factory.mktemp(name), name)
        return made[name]

    return make


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, make_family: Callable[[str], Family]) -> Family:
    return make_family(request.param)


def _write(root: Path, name: str) -> Family:
    model_type, overrides = FAMILIES[name]
    model_path = write_checkpoint(root / "model", family=model_type, **overrides)
    adapters = {
        f"r{rank}": write_adapter(
            root / f"r{rank}", model_path, rank, seed=rank, target_modules="all-linear"
        )
        for rank in (5, 19)
    }
    return Family(name, model_path, adapters)
