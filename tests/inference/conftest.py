"""One world for each test module: each test brings tenants and adapters of its own."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.inference.scripted_engine import steps_of
from tests.inference.world import World, running_world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    root = tmp_path_factory.mktemp("world")
    async with running_world(root, slow_reader_seconds=1.0, max_waiting_requests=8) as world:
        yield world


@pytest.fixture
def world(module_world: World) -> World:
    """The module's world, with an engine that is alive and has nothing special to say."""
    module_world.engine.reset(steps_of([70, 71, 72]))
    return module_world
