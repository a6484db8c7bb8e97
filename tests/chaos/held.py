"""What a running inference service holds: pages, places in queues, tasks, descriptors, memory."""

import asyncio
import urllib.request
from dataclasses import dataclass
from typing import Self

from prometheus_client.parser import text_string_to_metric_families

from lorikeet import AsyncClient
from tests.chaos.lab import Lab


@dataclass(frozen=True)
class Held:
    """By requests: all of it is zero when none runs."""

    running: int
    waiting: int
    kv_pages: int
    adapters_in_use: int

    def __str__(self) -> str:
        return (
            f"{self.running} running, {self.waiting} waiting, {self.kv_pages} pages of KV, "
            f"{self.adapters_in_use} uses of adapters"
        )

    @property
    def is_nothing(self) -> bool:
        return not (self.running or self.waiting or self.kv_pages or self.adapters_in_use)

    def most(self, other: "Held") -> "Held":
        """The larger of each."""
        return Held(
            max(self.running, other.running),
            max(self.waiting, other.waiting),
            max(self.kv_pages, other.kv_pages),
            max(self.adapters_in_use, other.adapters_in_use),
        )


@dataclass(frozen=True)
class Size:
    """Of the front end's process: what must stay flat, whatever happens."""

    resident_mib: float
    descriptors: int
    tasks: int
    calls: int

    def __str__(self) -> str:
        return (
            f"{self.resident_mib:.0f} MiB, {self.descriptors} descriptors, {self.tasks} tasks, "
            f"{self.calls} calls"
        )


async def held(client: AsyncClient) -> Held:
    """As an administrator sees it."""
    info, loaded = await asyncio.gather(client.server_info(), client.loaded())
    return Held(
        running=info.num_running,
        waiting=info.num_waiting,
        kv_pages=info.memory.kv_pages,
        adapters_in_use=sum(adapter.running_requests for adapter in loaded),
    )


class HeldWatch:
    """Looks again and again while it is entered; `most` is the largest of each that it saw."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._watching: asyncio.Task[None] | None = None
        self.most = Held(0, 0, 0, 0)

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._watching is not None
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            self.most = self.most.most(await held(self._client))
            await asyncio.sleep(0.05)


async def size(lab: Lab) -> Size:
    """Of the process now running."""
    metrics = await asyncio.to_thread(_read_metrics, lab.metrics_port)
    process = lab.front_end
    return Size(
        resident_mib=process.memory_info().rss / 2**20,
        descriptors=process.num_fds(),
        tasks=int(metrics["lorikeet_event_loop_tasks"]),
        calls=int(metrics["lorikeet_rpc_in_flight"]),
    )


def _read_metrics(port: int) -> dict[str, float]:
    """By name, the series of each added up."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        family.name: sum(sample.value for sample in family.samples)
        for family in text_string_to_metric_families(text)
    }
