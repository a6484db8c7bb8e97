"""What an inference service serves and holds at one moment, for `lorikeet top`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from lorikeet.cli.requests import seconds_of
from lorikeet.client import Client
from protos import inference_pb2 as pb


@dataclass(frozen=True)
class Snapshot:
    """One reading. `rates` are tokens a second, by place in `requests`."""

    time: float
    server: pb.ServerInfo
    requests: Sequence[pb.RequestInfo]
    adapters: Sequence[pb.LoadedAdapter]
    rates: Sequence[float] = field(default=())

    @property
    def tokens_per_second(self) -> float:
        """Of the requests that run."""
        return sum(self.rates)


def take_snapshot(client: Client, before: Snapshot | None) -> Snapshot:
    """Reads the service; a request's rate is that since `before`, or else since its first token."""
    requests = client.requests()
    now = time.time()
    known = {_key(item): item for item in before.requests} if before else {}
    elapsed = now - before.time if before else 0.0
    return Snapshot(
        time=now,
        server=client.server_info(),
        requests=requests,
        adapters=client.loaded(),
        rates=[_rate(item, known.get(_key(item)), elapsed) for item in requests],
    )


def _rate(item: pb.RequestInfo, before: pb.RequestInfo | None, elapsed: float) -> float:
    if before is not None and elapsed > 0:
        return max(0, item.completion_tokens - before.completion_tokens) / elapsed
    seconds = seconds_of(item.age) - seconds_of(item.time_to_first_token)
    return item.completion_tokens / seconds if item.completion_tokens and seconds > 0 else 0.0


def _key(item: pb.RequestInfo) -> tuple[str, str]:
    """Callers choose request ids, so that two tenants may have the same."""
    return item.tenant, item.request_id
