"""Tenants, keys and adapters for the writers, and the whole run against one registry."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from grpc import aio
from rich.console import Console
from rich.table import Table

from tests.registry.history.state import OWNER
from tests.registry.history.verdict import problems
from tests.registry.history.wire import Target
from tests.registry.history.workload import Clients, History, run_writers
from tests.registry.support import (
    PUBLISH,
    USE,
    Client,
    grants,
    make_base_model,
    make_key,
    make_registered,
    make_tenant,
)

_GUESTS = ("globex", "initech", "umbrella")
_NUM_ADAPTERS = 8


async def check_history(
    addresses: Sequence[str],
    admin_key: str,
    num_operations: int,
    *,
    num_writers: int = 64,
    seed: int = 0,
    with_resolve: bool = True,
) -> History:
    """Fails unless what happened at this empty registry is linearizable; prints what happened.

    Its processes have `addresses`. A process may remember what resolves for a moment after another
    one changed it: with several, `with_resolve` must be false.
    """
    async with AsyncExitStack() as stack:
        admin = Client(await stack.enter_async_context(_channel(addresses[0])), admin_key)
        keys = await _prepare(admin)
        clients = []
        for number in range(num_writers):
            address = addresses[number % len(addresses)]
            channel = await stack.enter_async_context(_channel(address))
            users = {tenant: Client(channel, key) for tenant, key in keys.items()}
            clients.append(Clients(users[OWNER], users))
        owner = clients[0].publisher
        targets = [
            Target(await make_registered(owner, OWNER, f"bot-{number}"))
            for number in range(_NUM_ADAPTERS)
        ]
        history = await run_writers(
            clients, targets, num_operations, seed, with_resolve=with_resolve
        )
        found = await problems(history, targets, owner, admin)
    _print(history)
    assert not found, "\n".join(found)
    return history


@asynccontextmanager
async def _channel(address: str) -> AsyncIterator[aio.Channel]:
    """A connection of its own: channels to one address share one by default."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with aio.insecure_channel(address, options=options) as channel:
        yield channel


async def _prepare(admin: Client) -> dict[str, str]:
    """A key for each tenant."""
    await make_base_model(admin)
    keys = {}
    for tenant in (OWNER, *_GUESTS):
        await make_tenant(admin, tenant)
        granted = [(USE, f"tenants/{tenant}")]
        granted += [(PUBLISH, f"tenants/{tenant}")] if tenant == OWNER else []
        keys[tenant] = await make_key(admin, tenant, "writer", grants(*granted))
    return keys


def _print(history: History) -> None:
    total = history.outcomes.total()
    rate = total / history.seconds
    title = (
        f"{total} operations on {len(history.records)} adapters in {history.seconds:.1f} s "
        f"({rate:.0f}/s)"
    )
    table = Table("method", "code", "reason", "count", title=title)
    for (method, code, reason), count in sorted(history.outcomes.items()):
        table.add_row(method, code, reason, str(count))
    by_code = Counter[str]()
    for (_, code, _), count in history.outcomes.items():
        by_code[code] += count
    console = Console(width=100)
    console.print(table)
    console.print(", ".join(f"{count} {code}" for code, count in by_code.most_common()))
