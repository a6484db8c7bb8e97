"""What one adapter does when calls come one after the other. Pure.

An action refuses for any of the reasons that hold in a state, or has one effect and one answer.
Etags are told apart by the number of changes that made them, which the registry counts as well.
"""

from dataclasses import dataclass

from tests.registry.history.state import (
    LATEST,
    LOST_RACE,
    OWNER,
    AdapterView,
    Answer,
    Effect,
    Nothing,
    Numbered,
    PolicyView,
    Refused,
    State,
)


class Action:
    """One call; `writes` says whether it changes anything when it is not refused."""

    writes = True

    def refusals(self, state: State) -> set[str]:
        return state.refusals()

    def effect(self, state: State) -> Effect:
        raise NotImplementedError


@dataclass(frozen=True)
class StartUpload(Action):
    writes = False  # nothing that another call on the adapter sees

    def effect(self, state: State) -> Effect:
        return Nothing(), state


@dataclass(frozen=True)
class Commit(Action):
    digest: str
    alias: str | None = None

    def effect(self, state: State) -> Effect:
        number = state.num_versions + 1
        aliases = state.with_alias(LATEST, number)
        if self.alias is not None:
            aliases = frozenset(state._replace(aliases=aliases).with_alias(self.alias, number))
        return Numbered(number), state.changed(num_versions=number, aliases=aliases)


@dataclass(frozen=True)
class SetAlias(Action):
    alias: str
    version: int
    etag: int | None = None

    def refusals(self, state: State) -> set[str]:
        absent = set() if state.has_version(self.version) else {"VERSION_NOT_FOUND"}
        return state.refusals(self.etag) | absent

    def effect(self, state: State) -> Effect:
        aliases = state.with_alias(self.alias, self.version)
        return Numbered(self.version), state.changed(aliases=aliases)


@dataclass(frozen=True)
class DeleteAlias(Action):
    alias: str
    etag: int | None = None

    def refusals(self, state: State) -> set[str]:
        absent = set() if state.target(self.alias) else {"ALIAS_NOT_FOUND"}
        return state.refusals(self.etag) | absent

    def effect(self, state: State) -> Effect:
        return Nothing(), state.changed(aliases=state.with_alias(self.alias, None))


@dataclass(frozen=True)
class DeleteVersion(Action):
    version: int

    def refusals(self, state: State) -> set[str]:
        reasons = state.refusals()
        if not state.has_version(self.version):
            reasons.add("VERSION_NOT_FOUND")
        if any(target == self.version and alias != LATEST for alias, target in state.aliases):
            reasons.add("VERSION_IN_USE")
        return reasons

    def effect(self, state: State) -> Effect:
        without = state._replace(gone=state.gone | 1 << self.version)
        aliases = without.with_alias(LATEST, without.highest_version())
        return Numbered(self.version), without.changed(aliases=aliases)


@dataclass(frozen=True)
class UndeleteVersion(Action):
    version: int

    def refusals(self, state: State) -> set[str]:
        reasons = state.refusals()
        if not 1 <= self.version <= state.num_versions:
            return reasons | {"VERSION_NOT_FOUND"}
        return reasons | {"VERSION_NOT_DELETED"} if state.has_version(self.version) else reasons

    def effect(self, state: State) -> Effect:
        back = state._replace(gone=state.gone ^ 1 << self.version)
        aliases = back.with_alias(LATEST, back.highest_version())
        return Numbered(self.version), back.changed(aliases=aliases)


@dataclass(frozen=True)
class DeleteAdapter(Action):
    etag: int | None = None

    def refusals(self, state: State) -> set[str]:
        return state.refusals(self.etag)

    def effect(self, state: State) -> Effect:
        after = state.changed(deleted=True)
        return view(after), after


@dataclass(frozen=True)
class UndeleteAdapter(Action):
    etag: int | None = None

    def refusals(self, state: State) -> set[str]:
        reasons = state.refusals(self.etag) - {"ADAPTER_DELETED"}
        return reasons if state.deleted else reasons | {"ADAPTER_NOT_DELETED"}

    def effect(self, state: State) -> Effect:
        after = state.changed(deleted=False)
        return view(after), after


@dataclass(frozen=True)
class GetAdapter(Action):
    writes = False

    def refusals(self, state: State) -> set[str]:
        return set()

    def effect(self, state: State) -> Effect:
        return view(state), state


@dataclass(frozen=True)
class SetPolicy(Action):
    allowed: frozenset[str]
    etag: int | None = None

    def refusals(self, state: State) -> set[str]:
        reasons = state.refusals()
        stale = self.etag not in (None, state.policy_generation)
        return reasons | {"ETAG_MISMATCH"} if stale else reasons

    def effect(self, state: State) -> Effect:
        generation = state.policy_generation + 1
        after = state._replace(allowed=self.allowed, policy_generation=generation)
        return PolicyView(after.allowed, generation), after


@dataclass(frozen=True)
class GetPolicy(Action):
    writes = False

    def refusals(self, state: State) -> set[str]:
        return set()

    def effect(self, state: State) -> Effect:
        return PolicyView(state.allowed, state.policy_generation), state


@dataclass(frozen=True)
class Resolve(Action):
    """By alias (`latest` too) or by version, for a tenant."""

    writes = False
    tenant: str
    selector: str | int

    def refusals(self, state: State) -> set[str]:
        if state.deleted or (self.tenant != OWNER and self.tenant not in state.allowed):
            return {"PERMISSION_DENIED"}
        if isinstance(self.selector, int):
            return set() if state.has_version(self.selector) else {"VERSION_NOT_FOUND"}
        if state.target(self.selector):
            return set()
        return {"VERSION_NOT_FOUND" if self.selector == LATEST else "ALIAS_NOT_FOUND"}

    def effect(self, state: State) -> Effect:
        if isinstance(self.selector, int):
            return Numbered(self.selector), state
        target = state.target(self.selector)
        assert target is not None, "refused before"
        return Numbered(target), state


def view(state: State) -> AdapterView:
    return AdapterView(state.deleted, state.generation, state.aliases)


def apply(action: Action, answer: Answer | None, state: State) -> State | None:
    """The state after the action, if it may answer so in this one. None as answer: not known."""
    reasons = action.refusals(state)
    if isinstance(answer, Refused):
        return state if answer.reason in reasons | {LOST_RACE} else None
    if reasons:
        return None
    expected, after = action.effect(state)
    return after if answer in (None, expected) else None
