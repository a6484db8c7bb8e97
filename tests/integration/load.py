"""Clients at work during an outage: each remembers how every one of its calls went."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from grpc import StatusCode

from lorikeet.rpc.errors import LorikeetError
from protos import registry_pb2 as pb
from tests.registry.support import WEIGHTS, Client, make_adapter, publish, read_file

DEADLINE_SECONDS = 15.0  # of every call; longer than the registry waits for anything
PAUSE_SECONDS = 0.02


@dataclass(frozen=True)
class Outcome:
    """One call, with the moments by the monotonic clock, in seconds."""

    kind: str
    began: float
    ended: float
    code: StatusCode | None = None  # None for success
    retry_after: float | None = None
    message: str = ""

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass
class Load:
    """Writers, resolvers, readers and a watcher of one adapter that has one version."""

    client: Client
    adapter: str
    outcomes: list[Outcome] = field(default_factory=list)
    acknowledged: dict[int, str] = field(default_factory=dict)  # digest by version
    revisions: list[int] = field(default_factory=list)  # of changes, as the watcher saw them
    watched: set[str] = field(default_factory=set)
    stopping: bool = False

    async def run(self, watching: Client) -> None:
        """Until `stop`."""
        workers = [self._repeat("publish", self._publish, n) for n in range(3)]
        workers += [self._repeat("resolve", self._resolve, n) for n in range(2)]
        workers += [self._repeat("read", self._read, n) for n in range(2)]
        watcher = asyncio.create_task(self._watch(watching))
        await asyncio.gather(*workers)
        await asyncio.sleep(2)  # the last changes arrive
        watcher.cancel()

    def stop(self) -> None:
        self.stopping = True

    def summary(self) -> str:
        lines = []
        for kind in sorted({outcome.kind for outcome in self.outcomes}):
            mine = [outcome for outcome in self.outcomes if outcome.kind == kind]
            codes = Counter(o.code.name if o.code else "OK" for o in mine)
            worst = max(outcome.seconds for outcome in mine)
            lines.append(f"  {kind:8} {dict(codes)}, worst {worst:.2f} s")
        return "\n".join(lines)

    async def _repeat(self, kind: str, call: Callable[[int], Awaitable[None]], n: int) -> None:
        while not self.stopping:
            began = time.monotonic()
            try:
                await call(n)
            except LorikeetError as error:
                self._note_failure(kind, began, error)
                await asyncio.sleep(error.retry_after or PAUSE_SECONDS)
            else:
                self.outcomes.append(Outcome(kind, began, time.monotonic()))
                await asyncio.sleep(PAUSE_SECONDS)

    def _note_failure(self, kind: str, began: float, error: LorikeetError) -> None:
        now = time.monotonic()
        text = f"{error.reason}: {error.message}"
        self.outcomes.append(Outcome(kind, began, now, error.code, error.retry_after, text))

    async def _publish(self, n: int) -> None:
        seed = n * 10**6 + len(self.outcomes)
        version = await publish(self.client, self.adapter, make_adapter(seed=seed).files())
        self.acknowledged[version.version] = version.digest

    async def _resolve(self, n: int) -> None:
        name = self.adapter if n else f"{self.adapter}/versions/1"
        request = pb.ResolveAdapterRequest(tenant="tenants/platform", name=name)
        await self.client("ResolveAdapter", request)

    async def _read(self, n: int) -> None:
        assert len(await read_file(self.client, f"{self.adapter}/versions/1", WEIGHTS)) > 0

    async def _watch(self, client: Client) -> None:
        while True:
            began = time.monotonic()
            start = self.revisions[-1] if self.revisions else 0
            request = pb.WatchAdaptersRequest(from_revision=start)
            try:
                async for event in client.stream("WatchAdapters", request):
                    if event.HasField("change"):
                        self.revisions.append(event.revision)
                        self.watched.add(event.change.resource)
            except LorikeetError as error:
                self._note_failure("watch", began, error)
                await asyncio.sleep(error.retry_after or PAUSE_SECONDS)
