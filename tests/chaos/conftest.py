"""The stack that chaos is done to: `make test-chaos` runs these, and nothing else does."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.chaos.lab import Files, Lab, running_lab, write_files


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write_files(tmp_path_factory.mktemp("files"))


@pytest_asyncio.fixture
async def lab(files: Files, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    """A fresh one for each test."""
    async with running_lab(files, tmp_path_factory.mktemp("lab")) as running:
        yield running
