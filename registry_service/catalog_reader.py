"""Fills the catalog from the database, and reads again what changed."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from lorikeet.rpc.errors import LorikeetError
from lorikeet.rpc.names import AdapterName
from protos import registry_pb2 as pb
from registry_service.catalog import Catalog, Entry
from registry_service.messages import profile_message, version_message
from registry_service.models import VersionRow
from registry_service.repository import catalog as repository
from registry_service.repository.catalog import Key, Listed
from registry_service.repository.database import Database

logger = logging.getLogger(__name__)

# Reading holds the interpreter, and with it the calls: short reads with pauses between.
_PAGE = 25
_PAUSE = 2.0  # as multiples of the read before
_RETRY_SECONDS = 1.0
# The feed tells of every change made through a registry. What was changed by hand is found by
# reading everything again, so often, but in no more than this part of the time.
_REFRESH_SECONDS = 60.0
_REFRESH_SHARE = 0.02
_MAX_ALLOWED = 1000  # adapters with longer allow-lists are left to the database


class CatalogReader:
    """A background task; `run` ends only by cancellation."""

    def __init__(self, database: Database, catalog: Catalog) -> None:
        self._database, self._catalog = database, catalog
        self._pass = _Pass(catalog.era)
        self._is_filled = False
        self._start = time.monotonic()

    async def run(self) -> None:
        while True:
            began = time.monotonic()
            try:
                is_done = await self._step()
            except LorikeetError as error:
                logger.warning("the catalog of adapters lost the database: %s", error.message)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if is_done:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pass.due - time.monotonic()):
                        await self._catalog.wanted()
            else:
                await asyncio.sleep(_PAUSE * (time.monotonic() - began))

    async def _step(self) -> bool:
        """Reads something, what changed first; true when there is nothing to read."""
        if self._pass.era != self._catalog.era or time.monotonic() >= self._pass.due:
            self._pass = _Pass(self._catalog.era)
        if self._catalog.lacks_tenants:
            await self._read_tenants()
        elif names := self._catalog.stale(_PAGE):
            await self._read_again(names)
        elif not self._pass.is_over:
            await self._read_page()
        else:
            return True
        return False

    async def _read_tenants(self) -> None:
        self._catalog.begin()
        self._catalog.put_tenants(await self._database.read(repository.tenants))

    async def _read_again(self, names: list[str]) -> None:
        keys = [(name.tenant, name.adapter) for name in map(AdapterName.parse, names)]
        self._catalog.begin()
        entries = await self._database.read(lambda session: _entries(session, keys))
        self._catalog.put(names, entries)

    async def _read_page(self) -> None:
        walk, began = self._pass, time.monotonic()
        self._catalog.begin()
        keys, entries = await self._database.read(lambda session: _page(session, walk.after))
        names = [_name(key) for key in keys]
        self._catalog.put(names, entries)
        walk.seen.update(names)
        walk.seconds += time.monotonic() - began
        if len(keys) == _PAGE:
            walk.after = keys[-1]
            return
        if not self._is_filled:
            self._is_filled = True
            message = "%d adapters are answered for from memory, %.1f s after the start"
            logger.info(message, len(self._catalog), time.monotonic() - self._start)
        walk.due = time.monotonic() + max(_REFRESH_SECONDS, walk.seconds / _REFRESH_SHARE)
        self._catalog.doubt(walk.seen)


@dataclass
class _Pass:
    """A walk over all live adapters, in order; when it is over, the next one is `due`."""

    era: int
    after: Key = ("", "")
    seen: set[str] = field(default_factory=set)
    seconds: float = 0.0
    due: float = float("inf")

    @property
    def is_over(self) -> bool:
        return self.due < float("inf")


def _page(session: Session, after: Key) -> tuple[list[Key], dict[str, Entry]]:
    keys = repository.keys_after(session, after, _PAGE)
    return keys, _entries(session, keys)


def _entries(session: Session, keys: Collection[Key]) -> dict[str, Entry]:
    listed = repository.read(session, keys, _MAX_ALLOWED) if keys else {}
    share = _Shared()
    return {_name(key): share.entry(adapter) for key, adapter in listed.items()}


class _Shared:
    """Makes entries; what is equal in several is there once."""

    def __init__(self) -> None:
        self._allowed: dict[frozenset[str], frozenset[str]] = {}
        self._versions: dict[VersionRow, bytes] = {}

    def entry(self, adapter: Listed) -> Entry:
        allowed = frozenset(adapter.allowed)
        versions = {alias: self._version(row) for alias, row in adapter.versions.items()}
        return Entry(adapter.is_shared, self._allowed.setdefault(allowed, allowed), versions)

    def _version(self, row: VersionRow) -> bytes:
        if row not in self._versions:
            message = pb.ResolveAdapterResponse(
                version=version_message(row), profile=profile_message(row)
            )
            self._versions[row] = message.SerializeToString()
        return self._versions[row]


def _name(key: Key) -> str:
    return str(AdapterName(*key))
