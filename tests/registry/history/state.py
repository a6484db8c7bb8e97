"""The state of one adapter, and what the registry may say of it. Pure."""

from dataclasses import dataclass
from typing import NamedTuple

LATEST = "latest"
OWNER = "acme"
# Another transaction won a race: the call had no effect, whatever the state.
LOST_RACE = "CONCURRENT_CHANGE"


class State(NamedTuple):
    """Bit n of `gone` says that version n is deleted; `allowed` are the tenants of the list."""

    deleted: bool = False
    generation: int = 1
    num_versions: int = 0
    gone: int = 0
    aliases: frozenset[tuple[str, int]] = frozenset()
    allowed: frozenset[str] = frozenset()
    policy_generation: int = 1

    def has_version(self, number: int) -> bool:
        return 1 <= number <= self.num_versions and not self.gone >> number & 1

    def target(self, alias: str) -> int | None:
        return dict(self.aliases).get(alias)

    def changed(self, **fields: object) -> "State":
        """After a change of the adapter, which gives it a new etag."""
        return self._replace(generation=self.generation + 1, **fields)  # type: ignore[arg-type]

    def with_alias(self, alias: str, version: int | None) -> frozenset[tuple[str, int]]:
        others = {entry for entry in self.aliases if entry[0] != alias}
        return frozenset(others if version is None else others | {(alias, version)})

    def highest_version(self) -> int | None:
        ready = (n for n in range(self.num_versions, 0, -1) if self.has_version(n))
        return next(ready, None)

    def refusals(self, etag: int | None = None) -> set[str]:
        """Why a change of the adapter itself may be refused."""
        reasons = {"ADAPTER_DELETED"} if self.deleted else set()
        return reasons if etag in (None, self.generation) else reasons | {"ETAG_MISMATCH"}


@dataclass(frozen=True)
class Refused:
    reason: str


@dataclass(frozen=True)
class AdapterView:
    deleted: bool
    generation: int
    aliases: frozenset[tuple[str, int]]


@dataclass(frozen=True)
class PolicyView:
    allowed: frozenset[str]
    generation: int


@dataclass(frozen=True)
class Numbered:
    """A version: committed, resolved, deleted or pointed at."""

    version: int


@dataclass(frozen=True)
class Nothing:
    """A call that answers with nothing worth comparing."""


Answer = Refused | AdapterView | PolicyView | Numbered | Nothing
Effect = tuple[Answer, State]
