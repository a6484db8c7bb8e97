"""Sends hostile artifacts and sound ones to a running registry, and judges what it says."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from lorikeet.rpc.errors import LorikeetError
from protos import registry_pb2 as pb
from tests.registry.hostile.config_kinds import CONFIG_KINDS
from tests.registry.hostile.declaration_kinds import DECLARATION_KINDS
from tests.registry.hostile.draft import Draft, sound, writes
from tests.registry.hostile.entry_kinds import ENTRY_KINDS
from tests.registry.hostile.header_kinds import HEADER_KINDS
from tests.registry.hostile.kinds import Kind
from tests.registry.hostile.tensor_kinds import TENSOR_KINDS
from tests.registry.support import Client

KINDS = (*DECLARATION_KINDS, *CONFIG_KINDS, *HEADER_KINDS, *ENTRY_KINDS, *TENSOR_KINDS)
_CONTROL_EVERY = 20


@dataclass(frozen=True)
class Hostile:
    """A spoilt draft; `fields` are those of which one must be named. No kind: a sound one."""

    number: int
    draft: Draft
    kind: Kind | None = None
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"artifact {self.number} ({self.kind.title if self.kind else 'sound'})"


@dataclass
class Campaign:
    """What came of it: refusals by kind, versions made, and everything that is wrong."""

    refused: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, set[tuple[str, str, str]]] = field(default_factory=dict)
    accepted: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def artifacts(count: int, seed: int) -> Iterator[Hostile]:
    """Every kind and every variant in turn, each number from a seed of its own."""
    variants = [(kind, variant) for kind in KINDS for variant in kind.variants]
    for number in range(count):
        random = Random(f"{seed}/{number}")
        if number % _CONTROL_EVERY == 0:
            yield Hostile(number, sound(random))
            continue
        kind, variant = variants[number % len(variants)]
        draft = sound(random, kind.dtype)
        named = variant(draft, random)
        yield Hostile(number, draft, kind, (named,) if isinstance(named, str) else tuple(named))


async def run_campaign(
    publisher: Client, adapters: Sequence[str], count: int, seed: int, num_clients: int = 8
) -> Campaign:
    """Uploads them all, `num_clients` at a time."""
    campaign, queue = Campaign(), artifacts(count, seed)

    async def work(adapter: str) -> None:
        for hostile in queue:
            await _upload(publisher, adapter, hostile, campaign)

    clients = [work(adapters[n % len(adapters)]) for n in range(num_clients)]
    await asyncio.gather(*clients)
    return campaign


async def _upload(publisher: Client, adapter: str, hostile: Hostile, campaign: Campaign) -> None:
    upload = ""
    try:
        request = pb.StartUploadRequest(adapter=adapter, files=hostile.draft.declarations())
        upload = (await publisher("StartUpload", request)).name
        await publisher("WriteArtifact", iter(list(writes(upload, hostile.draft))))
        version = await publisher("CommitUpload", pb.CommitUploadRequest(name=upload))
    except LorikeetError as error:
        campaign.problems += _problems(hostile, error)
        if hostile.kind is not None:
            _count(campaign, hostile.kind, error)
        if upload:
            await publisher("AbortUpload", pb.AbortUploadRequest(name=upload))
    else:
        campaign.accepted.append(hostile.number)
        if hostile.kind is not None or version.state != pb.VERSION_STATE_READY:
            campaign.problems.append(f"{hostile} became {version.name}")


def _count(campaign: Campaign, kind: Kind, error: LorikeetError) -> None:
    campaign.refused[kind.title] += 1
    shown = (error.code.name, error.reason, kind.reason or "")
    campaign.reasons.setdefault(kind.title, set()).add(shown)


def _problems(hostile: Hostile, error: LorikeetError) -> list[str]:
    """What is wrong about a refusal."""
    said = f"{error.code.name} {error.reason} {[(v.field, v.reason) for v in error.violations[:5]]}"
    kind = hostile.kind
    if kind is None:
        return [f"{hostile} was refused: {said}"]
    if (error.code, error.reason) != (kind.code, kind.error_reason):
        return [f"{hostile}: {said}, not {kind.code.name} {kind.error_reason}"]
    if kind.reason is None:
        return []
    for violation in error.violations:
        if violation.reason == kind.reason and violation.field in hostile.fields:
            return []
    return [f"{hostile}: {said}, not {kind.reason} of {hostile.fields[:3]}"]
