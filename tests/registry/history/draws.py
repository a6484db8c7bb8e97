"""Which action a writer does next: drawn at random around what is known of the adapter."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.registry.history.model import (
    Action,
    Commit,
    DeleteAdapter,
    DeleteAlias,
    DeleteVersion,
    GetAdapter,
    GetPolicy,
    Resolve,
    SetAlias,
    SetPolicy,
    UndeleteAdapter,
    UndeleteVersion,
)
from tests.registry.history.state import LATEST
from tests.registry.history.wire import Target

ALIASES = ("stable", "canary", "next")
# Deleted adapters are undeleted sooner than they were deleted, or little else could succeed.
_WEIGHTS: dict[type[Action], int] = {
    Commit: 14,
    SetAlias: 16,
    DeleteAlias: 3,
    DeleteVersion: 6,
    UndeleteVersion: 4,
    SetPolicy: 16,
    DeleteAdapter: 3,
    UndeleteAdapter: 10,
    GetAdapter: 10,
    GetPolicy: 8,
    Resolve: 14,
}


@dataclass(frozen=True)
class Draws:
    """`tenants` resolve, if they do; `guests` among them are on allow-lists or not."""

    random: Random
    tenants: Sequence[str]
    guests: Sequence[str]
    with_resolve: bool = True

    def action(self, target: Target, digest: str) -> Action:
        """A commit is of `digest`."""
        weights = {k: n for k, n in _WEIGHTS.items() if self.with_resolve or k is not Resolve}
        (kind,) = self.random.choices(list(weights), list(weights.values()))
        version = self._version(target)
        alias = self.random.choice(ALIASES)
        etag, policy_etag = self._etag(target.adapter_etags), self._etag(target.policy_etags)
        if kind is Commit:
            return Commit(digest, self.random.choice([None, None, alias]))
        if kind is Resolve:
            selectors: list[str | int] = [LATEST, LATEST, alias, version]
            return Resolve(self.random.choice(self.tenants), self.random.choice(selectors))
        if kind is DeleteVersion:
            return DeleteVersion(version)
        if kind is UndeleteVersion:
            return UndeleteVersion(version)
        if kind is SetPolicy:
            allowed = self.random.sample(self.guests, self.random.randint(0, len(self.guests)))
            return SetPolicy(frozenset(allowed), policy_etag)
        if kind is SetAlias:
            return SetAlias(alias, version, etag)
        if kind is DeleteAlias:
            return DeleteAlias(alias, etag)
        if kind is DeleteAdapter:
            return DeleteAdapter(etag)
        if kind is UndeleteAdapter:
            return UndeleteAdapter(etag)
        return kind()

    def _version(self, target: Target) -> int:
        """Mostly one of the last that are known, at times one that may not be there yet."""
        behind = self.random.choice([-1, 0, 0, 0, 1, 1, 2, 4, 7])
        return max(1, max(target.digests, default=0) - behind)

    def _etag(self, known: dict[int, str]) -> int | None:
        """None, the newest that is known, or now and then an old one."""
        if not known or self.random.random() < 0.6:
            return None
        return max(known) if self.random.random() < 0.8 else self.random.choice(list(known))
