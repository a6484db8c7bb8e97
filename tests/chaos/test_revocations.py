"""A thousand times access is taken away while a response is streamed, and no token comes late.

LORIKEET_TEST_FULL=1 python -m pytest -s tests/chaos/test_revocations.py    # 1,000
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from grpc import aio

from lorikeet import AsyncClient
from lorikeet.rpc.errors import LorikeetError, PermissionDeniedError
from lorikeet.streams import AsyncGenerationStream
from protos import registry_pb2 as pb
from tests.chaos.evidence import show
from tests.chaos.held import held
from tests.chaos.lab import BASE_MODEL, Lab, ask
from tests.chaos.sizes import NUM_REVOCATIONS, TEST_SECONDS
from tests.registry.support import USE, Client, grants, make_tenant

KINDS = ("policy", "key", "grants")
NUM_GUESTS = 12
NUM_OTHERS = 4  # whose access stays, and whose answers must stay right
MAX_SECONDS = 5.0
NUM_TOKENS = 900
PROMPT = "the quick brown fox jumps over the lazy dog"


@dataclass(frozen=True)
class Revocation:
    """How late tokens came, from when the revocation was asked for: it committed after that."""

    kind: str
    seconds_to_last_token: float
    seconds_to_end: float
    reason: str


@dataclass(frozen=True)
class Guest:
    """A tenant that may use one adapter of another tenant's."""

    admin: Client
    tenant: str
    adapter: str

    @property
    def scope(self) -> str:
        return f"tenants/{self.tenant}"

    async def make_key(self, principal: str) -> pb.CreateApiKeyResponse:
        """Of a new principal that may use what its tenant may."""
        new = pb.Principal(grants=grants((USE, self.scope)))
        request = pb.CreatePrincipalRequest(
            parent=self.scope, principal_id=principal, principal=new
        )
        created = await self.admin("CreatePrincipal", request)
        made: pb.CreateApiKeyResponse = await self.admin(
            "CreateApiKey", pb.CreateApiKeyRequest(principal=created.name)
        )
        return made

    async def revoke(self, kind: str, key: pb.ApiKey) -> None:
        match kind:
            case "policy":
                await self.allow()
            case "key":
                await self.admin("DeleteApiKey", pb.DeleteApiKeyRequest(name=key.name))
            case "grants":
                await self.admin("SetGrants", pb.SetGrantsRequest(principal=key.principal))

    async def allow(self, *scopes: str) -> None:
        """Replaces the allow-list of the adapter."""
        owner, name = self.adapter.split("/")
        adapter = f"tenants/{owner}/adapters/{name}"
        policy = pb.AccessPolicy(adapter=adapter, allowed_tenants=scopes)
        await self.admin("SetAccessPolicy", pb.SetAccessPolicyRequest(policy=policy))


@pytest.mark.timeout(TEST_SECONDS)
async def test_no_token_comes_late(lab: Lab) -> None:
    numbers, done = itertools.count(), list[Revocation]()
    async with aio.insecure_channel(lab.stack.registry_address) as channel, lab.admin() as overseer:
        admin = Client(channel, lab.stack.credentials["admin"])
        guests = [await _make_guest(lab, admin, number) for number in range(NUM_GUESTS)]
        began = time.monotonic()
        async with _others_go_on(lab):
            await asyncio.gather(*(_be_revoked(lab, guest, numbers, done) for guest in guests))
        seconds = time.monotonic() - began
        while not (await held(overseer)).is_nothing:
            assert time.monotonic() < began + seconds + 60, await held(overseer)
    late = sorted(revocation.seconds_to_last_token for revocation in done)
    ends = sorted(revocation.seconds_to_end for revocation in done)
    kinds = Counter(revocation.kind for revocation in done)
    show(
        f"{len(done)} revocations, {NUM_GUESTS} streams at a time beside {NUM_OTHERS} others",
        {
            "of": ", ".join(f"{count} {kind}" for kind, count in kinds.items()),
            "per second": f"{len(done) / seconds:.1f}",
            "last token after": _spread(late),
            "end of the stream after": _spread(ends),
        },
    )
    assert {revocation.reason for revocation in done} == {"ACCESS_REVOKED"}
    assert late[-1] <= MAX_SECONDS


async def _make_guest(lab: Lab, admin: Client, number: int) -> Guest:
    guest = Guest(admin, f"guest-{number}", f"acme/shared-{number}")
    await make_tenant(admin, guest.tenant)

    def publish() -> None:
        with lab.stack.admin() as publisher:
            publisher.create_adapter(guest.adapter, BASE_MODEL)
            publisher.push(lab.files.adapters["acme-1"], guest.adapter)

    await asyncio.to_thread(publish)
    await guest.allow(guest.scope)
    return guest


async def _be_revoked(
    lab: Lab, guest: Guest, numbers: Iterator[int], done: list[Revocation]
) -> None:
    while len(done) < NUM_REVOCATIONS:
        number = next(numbers)
        key = await guest.make_key(f"user-{number}")
        kind = KINDS[number % len(KINDS)]
        async with lab.stack.async_client(key.secret) as client:
            revocation = await _revoked(client, guest, kind, key.api_key)
            if revocation.reason:  # else the response was complete before it was heard of
                done.append(revocation)
                with pytest.raises(LorikeetError):
                    await client.generate(PROMPT, guest.adapter, max_tokens=1)
        if kind == "policy":
            await guest.allow(guest.scope)


async def _revoked(client: AsyncClient, guest: Guest, kind: str, key: pb.ApiKey) -> Revocation:
    """Takes access away in the middle of a response; says how it went on."""
    stream = await _begun(client, guest)
    revoking = asyncio.create_task(guest.revoke(kind, key))
    asked = last = time.monotonic()
    reason = ""
    async with stream:
        try:
            async for _ in stream:
                last = time.monotonic()
        except LorikeetError as error:
            reason = error.reason
    await revoking
    return Revocation(kind, last - asked, time.monotonic() - asked, reason)


async def _begun(client: AsyncClient, guest: Guest) -> AsyncGenerationStream:
    """A stream that has said something; an allow-list that was just changed is waited for."""
    async with asyncio.timeout(60):
        while True:
            stream = client.generate_stream(
                PROMPT, guest.adapter, max_tokens=NUM_TOKENS, temperature=0.0, ignore_eos=True
            )
            try:
                await anext(stream)
            except PermissionDeniedError:
                continue
            return stream


@asynccontextmanager
async def _others_go_on(lab: Lab) -> AsyncIterator[None]:
    """Tenants whose access stays are answered all the while, and rightly."""
    questions = itertools.cycle(lab.questions())

    async def ask_on(clients: dict[str, AsyncClient]) -> None:
        for question in questions:
            answer = await ask(clients[question.tenant], question)
            assert lab.is_right(answer, question.prompt)

    async with lab.clients() as clients, asyncio.TaskGroup() as group:
        asking = [group.create_task(ask_on(clients)) for _ in range(NUM_OTHERS)]
        yield
        for task in asking:
            task.cancel()


def _spread(seconds: list[float]) -> str:
    middle, most = seconds[len(seconds) // 2], seconds[int(len(seconds) * 0.99)]
    return f"p50 {middle:.3f} s, p99 {most:.3f} s, at most {seconds[-1]:.3f} s"
