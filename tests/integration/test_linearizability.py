"""On PostgreSQL too, through one process or two, concurrent calls have an order that explains them.

`LORIKEET_HISTORY=20000 make test-integration` for full size.
"""

import asyncio
import os

import pytest

from tests.backends import ON_SERVERS
from tests.integration.conftest import MakeRegistry
from tests.registry.history.world import check_history

NUM_OPERATIONS = int(os.environ.get("LORIKEET_HISTORY", "400"))
_ARGUMENTS = ("--max-open-uploads=1000", "--heartbeat-seconds=1")


@pytest.mark.timeout(120 + NUM_OPERATIONS / 5)
@pytest.mark.parametrize("backend", ON_SERVERS, indirect=True)
@pytest.mark.parametrize("num_processes", [1, 2])
async def test_a_registry_on_servers_is_linearizable(
    make_registry: MakeRegistry, num_processes: int
) -> None:
    registries = [make_registry(*_ARGUMENTS) for _ in range(num_processes)]
    addresses = [await asyncio.to_thread(registry.start) for registry in registries]
    key = registries[0].admin_key
    await check_history(addresses, key, NUM_OPERATIONS, with_resolve=num_processes == 1)
