"""The page that lists the benchmarks lists them all."""

import re
from pathlib import Path

import pytest

import benchmarks

DIRECTORY = Path(benchmarks.__file__).parent
COMMAND = re.compile(r"python -m benchmarks\.(\w+)")


def runnable() -> list[str]:
    """Those whose docstring says how they are run, as `python -m benchmarks.NAME`."""
    files = [*DIRECTORY.glob("*.py"), *DIRECTORY.glob("*/__main__.py")]
    names = {path: path.parent.name if path.stem == "__main__" else path.stem for path in files}
    return sorted(name for path, name in names.items() if name in COMMAND.findall(path.read_text()))


@pytest.mark.parametrize("name", [name for name in runnable() if name != "own_engine"])
def test_every_benchmark_is_in_the_list(name: str) -> None:
    assert f"python -m benchmarks.{name}`" in (DIRECTORY / "README.md").read_text()
