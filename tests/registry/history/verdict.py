"""What must hold once the writers have stopped: the history has an order, and nothing is lost."""

from collections import Counter
from collections.abc import Sequence

from lorikeet.rpc.errors import LorikeetError
from protos import registry_pb2 as pb
from tests.registry.history.checker import Record, unexplained
from tests.registry.history.model import Commit
from tests.registry.history.state import (
    LOST_RACE,
    Numbered,
    Refused,
)
from tests.registry.history.wire import Target
from tests.registry.history.workload import History
from tests.registry.support import Client

_FAULTS = {"INTERNAL", "UNKNOWN", "DATA_LOSS", "UNIMPLEMENTED"}


async def problems(
    history: History, targets: Sequence[Target], owner: Client, admin: Client
) -> list[str]:
    """Everything that is wrong, in words; empty when all is well."""
    found = [f"{count} x {key}" for key, count in history.outcomes.items() if key[1] in _FAULTS]
    for target in targets:
        records = history.records[target.name]
        found += target.changed_digests
        found += lost_races_without_rivals(records)
        broken = unexplained(records)
        if broken is not None:
            found.append(f"{target.name}: {broken}")
        found += await _lost_versions(owner, target, records)
    return found + await _gaps_in_feed(admin)


def lost_races_without_rivals(records: Sequence[Record]) -> list[str]:
    """Calls that are said to have lost a race, although no other change ran beside them."""
    writes = [r for r in records if r.action.writes and not isinstance(r.answer, Refused)]
    losers = [r for r in records if r.answer == Refused(LOST_RACE)]
    return [
        f"{loser} lost a race against nobody"
        for loser in losers
        if not any(rival.begin <= loser.end and loser.begin <= rival.end for rival in writes)
    ]


async def _lost_versions(owner: Client, target: Target, records: Sequence[Record]) -> list[str]:
    """Numbers are dense from 1 and unique, and every acknowledged commit is there as it was."""
    digests = {version.version: version.digest for version in await _versions(owner, target)}
    found = []
    if sorted(digests) != list(range(1, len(digests) + 1)):
        found.append(f"{target.name}: the version numbers are {sorted(digests)}")
    for record in records:
        match record:
            case Record(Commit(digest), Numbered(number)) if digests.get(number) != digest:
                found.append(f"{target.name}: version {number} is {digests.get(number)}: {record}")
    committed = Counter(r.answer for r in records if isinstance(r.action, Commit))
    found += [f"{target.name}: {n} commits got {a}" for a, n in committed.items() if _twice(a, n)]
    return found


def _twice(answer: object, count: int) -> bool:
    return isinstance(answer, Numbered) and count > 1


async def _versions(owner: Client, target: Target) -> list[pb.AdapterVersion]:
    try:
        request = pb.UndeleteAdapterRequest(name=target.name)
        await owner("UndeleteAdapter", request)
    except LorikeetError as error:
        assert error.reason == "ADAPTER_NOT_DELETED"  # noqa: PT017
    versions: list[pb.AdapterVersion] = []
    token = ""
    while True:
        page = await owner(
            "ListAdapterVersions",
            pb.ListAdapterVersionsRequest(
                parent=target.name, page_size=1000, show_deleted=True, page_token=token
            ),
        )
        versions += page.versions
        token = page.next_page_token
        if not token:
            return versions


async def _gaps_in_feed(admin: Client) -> list[str]:
    """Revisions of the change feed count from 1 without a gap, up to now."""
    expected = 1
    async for response in admin.stream("WatchAdapters", pb.WatchAdaptersRequest()):
        if response.HasField("heartbeat"):
            return [] if expected > 1 else ["the change feed is empty"]
        if response.revision != expected:
            return [f"the change feed goes from {expected - 1} to {response.revision}"]
        expected += 1
    return ["the change feed ended"]
