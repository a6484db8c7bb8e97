"""The world of the front end's other tests, with a parser of calls for the base model."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.inference.world import World, running_world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    root = tmp_path_factory.mktemp("world")
    async with running_world(root, tool_call_parser="hermes", max_model_len=1024) as world:
        yield world
