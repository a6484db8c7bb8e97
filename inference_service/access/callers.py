"""Who presents which credential: asked of the registry again when that may have changed."""

import math
from datetime import UTC, datetime
from functools import partial
from typing import Final

from inference_service.access.presented import Presented
from inference_service.adapters.registry_client import RegistryClient
from inference_service.adapters.registry_watch import RegistryChange, RegistryWatch
from inference_service.identity import Caller
from lorikeet.rpc.credentials import invalid_credential
from lorikeet.rpc.errors import UnauthenticatedError
from lorikeet.rpc.feed_cache import FeedCache, Loaded

_MAX_CALLERS: Final = 20_000
# The issuer of a token may withdraw its key, which no change of the registry tells.
_MAX_TOKEN_SECONDS: Final = 60.0
# What callers known by a subject depend on besides their own principal: to whom it belongs.
_SUBJECTS: Final = "subjects"


class Callers:
    """Callers by the digest of what they present; what was refused is not remembered.

    Answers from memory while there is a lease, and none is younger than the last change of its
    principal or key that the watch has told.
    """

    def __init__(self, registry: RegistryClient, watch: RegistryWatch) -> None:
        self._registry = registry
        self._cache: FeedCache[bytes, Caller] = FeedCache(
            _MAX_CALLERS, lambda: watch.lease_left > 0
        )
        watch.tell(self._changed, self._cache.clear)

    async def identify(self, presented: Presented) -> Caller:
        """UNAUTHENTICATED for what is not valid, UNAVAILABLE when that cannot be found out."""
        if presented.has_expired:
            raise invalid_credential()
        return await self._cache.get(presented.digest, None, partial(self._load, presented))

    def _changed(self, change: RegistryChange) -> None:
        collections = change.resource.split("/")[::2]
        if collections == ["tenants"]:
            self._cache.clear()  # with a tenant the grants in it end, whoever held them
        elif collections in (["tenants", "principals"], ["tenants", "apiKeys"]):
            self._cache.forget(change.resource)
            self._cache.forget(_SUBJECTS)

    async def _load(self, presented: Presented) -> Loaded[Caller]:
        caller = await self._ask(presented)
        own = caller.api_key or _SUBJECTS
        return Loaded(caller, frozenset({caller.principal, own}), seconds_valid(presented, caller))

    async def _ask(self, presented: Presented) -> Caller:
        if presented.token:
            return Caller.from_identity(await self._registry.identify(presented.token))
        found: dict[str, Caller] = {}
        for subject in presented.subjects:
            try:
                identity = await self._registry.identify(subject=subject)
            except UnauthenticatedError:
                continue  # nobody goes by this name of the certificate
            found[identity.principal] = Caller.from_identity(identity)
        if len(found) != 1:
            # Several principals: whom a certificate means must not depend on the order of its names
            raise invalid_credential()
        return next(iter(found.values()))


def seconds_valid(presented: Presented, caller: Caller) -> float:
    """For how long an answer may serve when the registry changes nothing; may be infinite."""
    is_jwt = bool(presented.token) and not caller.api_key
    longest = _MAX_TOKEN_SECONDS if is_jwt else math.inf
    ends = [moment for moment in (presented.expire_time, caller.expire_time) if moment]
    now = datetime.now(UTC)
    return min(longest, *((moment - now).total_seconds() for moment in ends), math.inf)
