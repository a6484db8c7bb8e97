"""What ResolveAdapter needs to know of every adapter, in memory; CatalogReader keeps it so."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import msgspec

from lorikeet.rpc.names import AdapterName, VersionName
from protos import registry_pb2 as pb
from registry_service.access import EVERY_TENANT
from registry_service.feed import ChangeFeed
from registry_service.messages import LATEST
from registry_service.operations.resolution import Asked, Chosen, Facts
from registry_service.repository.journal import Change

MAX_ADAPTERS = 200_000


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A live adapter. `versions`, by alias: a serialised ResolveAdapterResponse with the version
    and its profile, a third the size of the message and nothing for the garbage collector."""

    is_shared: bool
    allowed: frozenset[str]
    versions: dict[str, bytes]


@dataclass
class _Missed:
    """What a read of the database that began before may not know."""

    names: set[str] = field(default_factory=set)
    tenants: bool = False
    everything: bool = False


class Catalog:
    """Used from the event loop only. What changes is out of it until it is read again.

    It answers only what the tenant that asks may use: the rest, numbered versions included, has to
    be asked of the database, so that nobody can tell by the time what there is and what is not.
    """

    def __init__(self, feed: ChangeFeed) -> None:
        self._feed = feed
        self._entries: dict[str, Entry] = {}
        self._tenants: frozenset[str] | None = None
        self._stale: dict[str, None] = {}  # in the order of their changes
        self._missed = _Missed()
        self._wanted = asyncio.Event()
        self.era = 0
        feed.tell(self.changed, self.clear)

    def __len__(self) -> int:
        return len(self._entries)

    def facts(self, asked: Asked) -> Facts | None:
        """None: to be asked of the database."""
        entry = self._entries.get(str(asked.adapter))
        if entry is None or isinstance(asked.selector, VersionName) or not self._feed.is_current():
            return None
        selector = asked.selector
        alias = LATEST if isinstance(selector, AdapterName) else selector.alias
        content = entry.versions.get(alias)
        allowed = self._allowed(entry, asked.tenant.tenant)
        if content is None or not (allowed or asked.tenant.tenant == asked.adapter.tenant):
            return None
        known = pb.ResolveAdapterResponse.FromString(content)
        return Facts(
            self._feed.position, True, allowed, Chosen(known.version, known.profile, alias)
        )

    def changed(self, change: Change) -> None:
        """To be told of every change of the feed."""
        parts = change.resource.split("/")
        if parts[::2][:2] == ["tenants", "adapters"]:
            name = "/".join(parts[:4])
            self._entries.pop(name, None)
            self._stale[name] = None
            self._missed.names.add(name)
        elif parts[0] == "tenants" and len(parts) == 2:
            if change.kind not in ("tenants.create", "tenants.update"):
                self.clear()  # it may have stood on any allow-list
            self._tenants, self._missed.tenants = None, True
        self._wanted.set()

    def clear(self) -> None:
        """Forgets everything; it is all to be read again."""
        self.era += 1
        self._entries.clear()
        self._stale.clear()
        self._tenants, self._missed.everything = None, True
        self._wanted.set()

    async def wanted(self) -> None:
        """Until something is to be read again."""
        await self._wanted.wait()
        self._wanted.clear()

    @property
    def lacks_tenants(self) -> bool:
        return self._tenants is None

    def stale(self, limit: int) -> list[str]:
        """Names of adapters that changed, those that did first."""
        return list(self._stale)[:limit]

    def begin(self) -> None:
        """A read of the database begins: what changes from now on is not taken from it."""
        self._missed = _Missed()

    def put_tenants(self, tenants: frozenset[str]) -> None:
        if not (self._missed.tenants or self._missed.everything):
            self._tenants = tenants

    def put(self, names: Collection[str], entries: Mapping[str, Entry]) -> None:
        """What was read of these adapters; those without an entry are not to be answered."""
        if self._missed.everything:
            return
        for name in names:
            if name in self._missed.names:
                continue
            self._stale.pop(name, None)
            entry = entries.get(name)
            if entry is not None and (name in self._entries or len(self) < MAX_ADAPTERS):
                self._entries[name] = entry
            else:
                self._entries.pop(name, None)

    def doubt(self, seen: Collection[str]) -> None:
        """Has those read again that a walk over all adapters has not `seen`."""
        self._stale |= dict.fromkeys(self._entries.keys() - seen)

    def _allowed(self, entry: Entry, tenant: str) -> frozenset[str]:
        """Of the allow-list, what concerns `tenant`."""
        if not entry.is_shared:
            return frozenset({tenant}) & entry.allowed
        is_known = self._tenants is not None and tenant in self._tenants
        return frozenset({EVERY_TENANT}) if is_known else frozenset()
