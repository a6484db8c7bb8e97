"""Who recently presented which credential; the database is asked again at least every 5 seconds."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from lorikeet.rpc.feed_cache import FeedCache, Loaded
from registry_service.access import Caller
from registry_service.credentials import Credential
from registry_service.repository import principals
from registry_service.repository.database import Database
from registry_service.repository.journal import Change

_MAX_SECONDS = 5.0
_MAX_CALLERS = 10_000
# What callers known by a subject depend on besides their own principal: to whom it belongs.
_SUBJECTS = "subjects"


class CallerCache:
    """Callers by a digest of their credential; refused credentials are not remembered."""

    def __init__(self, database: Database, is_current: Callable[[], bool]) -> None:
        self.generation = 0  # grows whenever somebody's rights may have changed
        self._database = database
        self._cache: FeedCache[bytes, Caller] = FeedCache(_MAX_CALLERS, is_current)

    def cached(self, credential: Credential) -> Caller | None:
        return self._cache.cached(_digest(credential))

    async def get(self, credential: Credential) -> Caller:
        """UNAUTHENTICATED as `principals.authenticate`."""
        return await self._cache.get(_digest(credential), None, partial(self._load, credential))

    def changed(self, change: Change) -> None:
        """To be told of every change of the feed."""
        collections = change.resource.split("/")[::2]
        if collections == ["tenants"]:
            self.clear()  # with a tenant the grants in it end, whoever held them
        elif collections in (["tenants", "principals"], ["tenants", "apiKeys"]):
            self.generation += 1
            self._cache.forget(change.resource)
            self._cache.forget(_SUBJECTS)

    def clear(self) -> None:
        self.generation += 1
        self._cache.clear()

    async def _load(self, credential: Credential) -> Loaded[Caller]:
        caller = await self._database.read(
            lambda session: principals.authenticate(session, credential)
        )
        return Loaded(caller, _sources(caller), _seconds(caller))


def _digest(credential: Credential) -> bytes:
    ends = credential.expire_time.isoformat() if credential.expire_time else ""
    text = f"{credential.kind.value}\n{credential.tenant}\n{ends}\n{credential.value}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _sources(caller: Caller) -> frozenset[str]:
    own = str(caller.api_key) if caller.api_key else _SUBJECTS
    return frozenset({str(caller.name), own})


def _seconds(caller: Caller) -> float:
    if caller.expire_time is None:
        return _MAX_SECONDS
    return min(_MAX_SECONDS, (caller.expire_time - datetime.now(UTC)).total_seconds())
