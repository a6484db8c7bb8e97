"""How long after a revocation is acknowledged do watchers hear of it?

    python -m benchmarks.watch                  one process on SQLite
    python -m benchmarks.watch --processes 2    two processes on one PostgreSQL

Prints the 50th and 99th percentile over all watchers and changes; exit status 1 past --max-p99. The
watchers run in one process beside the registry: on a busy machine the figures include its queues.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from grpc import aio

from protos import registry_pb2 as pb
from tests.registry.process import Process
from tests.registry.support import Client, make_base_model, make_registered, make_tenant
from tests.servers.guard import Guard
from tests.servers.postgresql import debian_15, start_postgres

_STREAMS_PER_CHANNEL = 50
_PATIENCE_SECONDS = 60.0


class Watcher:
    """One stream; notes when it has read which revision."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._heard: defaultdict[int, asyncio.Future[float]] = defaultdict(
            asyncio.get_running_loop().create_future
        )
        self.position = asyncio.get_running_loop().create_future()

    async def time_of(self, revision: int) -> float:
        return await self._heard[revision]

    async def run(self) -> None:
        """Until it is cancelled; `position` is where it was when it had caught up."""
        async for response in self._client.stream("WatchAdapters", pb.WatchAdaptersRequest()):
            if not response.HasField("heartbeat"):
                self._heard[response.revision].set_result(time.perf_counter())
            elif not self.position.done():
                self.position.set_result(response.revision)


@contextmanager
def registries(num_processes: int, directory: Path) -> Iterator[tuple[list[str], str]]:
    """Addresses of registries on one database, and the administrator's key."""
    with ExitStack() as stack:
        environment: Mapping[str, str] = {}
        if num_processes > 1:
            server = start_postgres(debian_15(), stack.enter_context(Guard()))
            stack.callback(server.process.stop)
            environment = {"LORIKEET_REGISTRY_DATABASE_URL": server.url()}
        addresses = []
        for number in range(num_processes):
            (directory / str(number)).mkdir()
            process = Process(directory / str(number) / "data", environment=environment)
            stack.callback(process.popen.wait)
            stack.callback(process.popen.kill)
            addresses.append(process.wait_ready())
        credentials = directory / "0" / "data" / "credentials.json"
        yield addresses, json.loads(credentials.read_text())["admin"]


async def measure(
    addresses: Sequence[str], key: str, num_watchers: int, num_changes: int
) -> list[float]:
    """Seconds from the acknowledgement of each change until each watcher had it."""
    async with _Channels(addresses, key, num_watchers) as channels:
        changers = channels.clients[: len(addresses)]
        await make_base_model(changers[0])
        await make_tenant(changers[0], "partner")
        adapter = await make_registered(changers[0], "platform", "watched")
        watchers = [Watcher(channels.client(number)) for number in range(num_watchers)]
        tasks = [asyncio.create_task(watcher.run()) for watcher in watchers]
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                (start,) = set(await asyncio.gather(*(watcher.position for watcher in watchers)))
            seconds: list[float] = []
            for number in range(num_changes):
                changer = changers[number % len(changers)]
                seconds += await _latencies(changer, adapter, watchers, start + 1 + number)
            return seconds
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _latencies(
    changer: Client, adapter: str, watchers: Sequence[Watcher], revision: int
) -> list[float]:
    """Grants or revokes the use of an adapter; the change gets the number `revision`."""
    allowed = ["tenants/partner"] if revision % 2 else []
    policy = pb.AccessPolicy(adapter=adapter, allowed_tenants=allowed)
    await changer("SetAccessPolicy", pb.SetAccessPolicyRequest(policy=policy))
    acknowledged = time.perf_counter()
    async with asyncio.timeout(_PATIENCE_SECONDS):
        heard = await asyncio.gather(*(watcher.time_of(revision) for watcher in watchers))
    # A watcher may well have it before the one who made the change is told.
    return [max(0.0, when - acknowledged) for when in heard]


class _Channels:
    """Enough connections for the watchers, to the registries in turn."""

    def __init__(self, addresses: Sequence[str], key: str, num_watchers: int) -> None:
        count = max(len(addresses), -(-num_watchers // _STREAMS_PER_CHANNEL))
        # Channels to one address would otherwise share one connection.
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [
            aio.insecure_channel(addresses[number % len(addresses)], options)
            for number in range(count)
        ]
        self.clients = [Client(channel, key) for channel in self._channels]

    def client(self, number: int) -> Client:
        return self.clients[number % len(self.clients)]

    async def __aenter__(self) -> "_Channels":
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(channel.close(None) for channel in self._channels))


def run(num_processes: int, num_watchers: int, num_changes: int) -> float:
    """Prints the figures; returns the 99th percentile in seconds."""
    with (
        tempfile.TemporaryDirectory() as directory,
        registries(num_processes, Path(directory)) as (addresses, key),
    ):
        seconds = asyncio.run(measure(addresses, key, num_watchers, num_changes))
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    print(
        f"{num_watchers} watchers of {num_processes} process(es), {num_changes} changes: "
        f"p50 {1e3 * cuts[49]:.0f} ms, p99 {1e3 * cuts[98]:.0f} ms, max {1e3 * max(seconds):.0f} ms"
    )
    return cuts[98]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=20)
    parser.add_argument("--max-p99", type=float, default=1.0, help="seconds")
    arguments = parser.parse_args()
    p99 = run(arguments.processes, arguments.watchers, arguments.changes)
    return int(p99 > arguments.max_p99)


if __name__ == "__main__":
    sys.exit(main())
