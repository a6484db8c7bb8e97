"""Many writers at once on a few adapters of a running registry; every call is recorded."""

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import grpc

from lorikeet.rpc.digests import manifest_digest
from lorikeet.rpc.errors import LorikeetError, UnavailableError
from protos import registry_pb2 as pb
from tests.registry.history.checker import Record
from tests.registry.history.draws import Draws
from tests.registry.history.model import (
    Action,
    Commit,
    Resolve,
    StartUpload,
)
from tests.registry.history.state import (
    OWNER,
    Answer,
    Refused,
)
from tests.registry.history.wire import Target, answer_of, method_of, request_of
from tests.registry.support import Client, chunks, declared, make_adapter

# Whether such a call took effect is not known.
_AMBIGUOUS = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}
_NUM_ARTIFACTS = 4000  # few enough that writers now and then upload the same bytes


@dataclass(frozen=True)
class Clients:
    """`publisher` owns the adapters; `users` are tenants by name, the owner among them."""

    publisher: Client
    users: Mapping[str, Client]


@dataclass
class History:
    """What was recorded: calls by adapter, and how many ended in (method, code, reason)."""

    records: dict[str, list[Record]] = field(default_factory=dict)
    outcomes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    seconds: float = 0.0


async def run_writers(
    clients: Sequence[Clients],
    targets: Sequence[Target],
    num_operations: int,
    seed: int,
    *,
    with_resolve: bool = True,
) -> History:
    """One writer for each of `clients`, until they have begun `num_operations` in all."""
    history = History({target.name: [] for target in targets})
    left = iter(range(num_operations))
    writers = [
        _Writer(own, targets, history, Random(f"{seed}/{number}"), with_resolve)
        for number, own in enumerate(clients)
    ]
    began = time.monotonic()
    await asyncio.gather(*(writer.run(left) for writer in writers))
    history.seconds = time.monotonic() - began
    return history


class _Writer:
    def __init__(
        self,
        clients: Clients,
        targets: Sequence[Target],
        history: History,
        random: Random,
        with_resolve: bool,
    ) -> None:
        self._clients = clients
        self._targets = targets
        self._history = history
        self._random = random
        tenants = list(clients.users)
        guests = [tenant for tenant in tenants if tenant != OWNER]
        self._draws = Draws(random, tenants, guests, with_resolve)

    async def run(self, left: Iterator[int]) -> None:
        """Takes operations from the common count until none is left."""
        for _ in left:
            target = self._random.choice(self._targets)
            files = _artifact(self._random.randrange(_NUM_ARTIFACTS))
            action = self._draws.action(target, manifest_digest(declared(files)))
            if isinstance(action, Commit):
                await self._publish(target, action, files)
            else:
                await self._call(target, action, method_of(action), request_of(action, target))

    async def _publish(self, target: Target, commit: Commit, files: Mapping[str, bytes]) -> None:
        """A new version: start, write, commit."""
        start = pb.StartUploadRequest(adapter=target.name, files=declared(files))
        upload = await self._call(target, StartUpload(), "StartUpload", start)
        if upload is None:
            return
        publisher = self._clients.publisher
        try:
            await publisher("WriteArtifact", iter(list(chunks(upload.name, files, 1 << 20))))
        except UnavailableError as error:
            self._history.outcomes[_ending("WriteArtifact", error)] += 1
            return
        aliases = [commit.alias] if commit.alias else []
        request = pb.CommitUploadRequest(name=upload.name, aliases=aliases)
        version = await self._call(target, commit, "CommitUpload", request)
        if version is None:
            # Refused, or the answer was lost: then it may be committed, and is not to be aborted.
            with contextlib.suppress(LorikeetError):
                await publisher("AbortUpload", pb.AbortUploadRequest(name=upload.name))
        else:
            assert version.digest == commit.digest

    async def _call(self, target: Target, action: Action, method: str, request: Any) -> Any:
        """The response, after it was recorded; None when there is none."""
        client = self._clients.publisher
        if isinstance(action, Resolve):
            client = self._clients.users[action.tenant]
        answer: Answer | None
        ending: LorikeetError | None
        begin = time.monotonic()
        try:
            response = await client(method, request)
        except LorikeetError as error:
            response, ending = None, error
            answer = None if error.code in _AMBIGUOUS else Refused(error.reason)
        else:
            ending, answer = None, answer_of(response, target)
        end = math.inf if answer is None else time.monotonic()
        self._history.records[target.name].append(Record(action, answer, begin, end))
        self._history.outcomes[_ending(method, ending)] += 1
        return response


def _ending(method: str, error: LorikeetError | None) -> tuple[str, str, str]:
    return (method, "OK", "") if error is None else (method, error.code.name, error.reason)


def _artifact(seed: int) -> Mapping[str, bytes]:
    """An adapter of one small module; different for every seed."""
    return make_adapter(rank=1, modules=["self_attn.k_proj"], seed=seed).files()
