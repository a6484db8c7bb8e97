"""The search for an order accepts what could have happened, and nothing else."""

import dataclasses
from collections.abc import Callable
from random import Random

import pytest

from tests.registry.history.checker import Record, unexplained
from tests.registry.history.draws import Draws
from tests.registry.history.model import (
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
)
from tests.registry.history.state import (
    LATEST,
    LOST_RACE,
    OWNER,
    AdapterView,
    Answer,
    Nothing,
    Numbered,
    PolicyView,
    Refused,
    State,
)
from tests.registry.history.verdict import lost_races_without_rivals
from tests.registry.history.wire import Target

GUEST = frozenset({"globex"})
COMMIT = Record(Commit("sha256:a"), Numbered(1), 0, 1)
SECOND = Record(Commit("sha256:b"), Numbered(2), 2, 3)
GRANT = Record(SetPolicy(GUEST), PolicyView(GUEST, 2), 2, 3)
DELETE = Record(DeleteAdapter(), AdapterView(True, 3, frozenset({(LATEST, 1)})), 2, 3)


def resolve(answer: Answer, begin: float, end: float, tenant: str = OWNER) -> Record:
    return Record(Resolve(tenant, LATEST), answer, begin, end)


POSSIBLE: dict[str, list[Record]] = {
    "a read sees a commit that ended": [COMMIT, resolve(Numbered(1), 2, 3)],
    "a read beside a commit sees it": [COMMIT, resolve(Numbered(1), 0.2, 0.3)],
    "a read beside a commit does not": [COMMIT, resolve(Refused("VERSION_NOT_FOUND"), 0.2, 0.3)],
    "commits that overlap, in either order": [
        dataclasses.replace(COMMIT, answer=Numbered(2), end=5),
        dataclasses.replace(SECOND, answer=Numbered(1)),
    ],
    "a lost answer, and it took effect": [
        Record(Commit("sha256:a"), None, 0),
        resolve(Numbered(1), 5, 6),
    ],
    "a lost answer, and it did not": [
        Record(Commit("sha256:a"), None, 0),
        dataclasses.replace(SECOND, answer=Numbered(1)),
    ],
    "a lost answer, and it took effect late": [
        Record(Commit("sha256:a"), None, 0),
        resolve(Refused("VERSION_NOT_FOUND"), 5, 6),
        resolve(Numbered(1), 7, 8),
    ],
    "a lost race has no effect": [
        COMMIT,
        Record(Commit("sha256:c"), Refused(LOST_RACE), 0, 1),
        SECOND,
    ],
    "three changes whose order only the last read tells": [
        COMMIT,
        Record(SetAlias("stable", 1), Numbered(1), 2, 9),
        Record(DeleteAlias("stable"), Nothing(), 2, 9),
        Record(SetAlias("canary", 1), Numbered(1), 2, 9),
        Record(
            GetAdapter(), AdapterView(False, 5, frozenset({(LATEST, 1), ("canary", 1)})), 10, 11
        ),
    ],
}
IMPOSSIBLE: dict[str, list[Record]] = {
    "a commit is forgotten": [COMMIT, resolve(Refused("VERSION_NOT_FOUND"), 2, 3)],
    "a commit is seen before it begins": [
        dataclasses.replace(COMMIT, begin=4, end=5),
        resolve(Numbered(1), 2, 3),
    ],
    "a number is given twice": [COMMIT, dataclasses.replace(SECOND, answer=Numbered(1))],
    "a number is left out": [COMMIT, dataclasses.replace(SECOND, answer=Numbered(3))],
    "numbers against the order of time": [
        dataclasses.replace(COMMIT, answer=Numbered(2)),
        dataclasses.replace(SECOND, answer=Numbered(1)),
    ],
    "two writers win with one etag": [
        Record(SetPolicy(GUEST, 1), PolicyView(GUEST, 2), 0, 1),
        Record(SetPolicy(frozenset(), 1), PolicyView(frozenset(), 3), 0, 1),
    ],
    "a fresh etag is refused": [Record(SetPolicy(GUEST, 1), Refused("ETAG_MISMATCH"), 0, 1)],
    "an update is lost": [GRANT, Record(GetPolicy(), PolicyView(frozenset(), 1), 4, 5)],
    "a read goes back in time": [
        COMMIT,
        dataclasses.replace(SECOND, begin=2, end=9),
        resolve(Numbered(2), 3, 4),
        resolve(Numbered(1), 5, 6),
    ],
    "a guest that is not listed": [COMMIT, resolve(Numbered(1), 2, 3, "globex")],
    "a guest that was listed when asked": [
        COMMIT,
        GRANT,
        resolve(Refused("PERMISSION_DENIED"), 4, 5, "globex"),
    ],
    "a deleted adapter resolves": [COMMIT, DELETE, resolve(Numbered(1), 4, 5)],
    "deleted twice": [COMMIT, DELETE, dataclasses.replace(DELETE, begin=4, end=5)],
    "undeleted though alive": [
        COMMIT,
        Record(UndeleteAdapter(), AdapterView(False, 3, frozenset({(LATEST, 1)})), 2, 3),
    ],
    "an alias on a deleted version": [
        COMMIT,
        Record(DeleteVersion(1), Numbered(1), 2, 3),
        Record(SetAlias("stable", 1), Numbered(1), 4, 5),
    ],
    "latest stays on a deleted version": [
        COMMIT,
        SECOND,
        Record(DeleteVersion(2), Numbered(2), 4, 5),
        resolve(Numbered(2), 6, 7),
    ],
    "an answer for no reason": [COMMIT, resolve(Refused("INTERNAL"), 2, 3)],
}


@pytest.mark.parametrize("case", POSSIBLE)
def test_what_could_have_happened_is_accepted(case: str) -> None:
    assert unexplained(POSSIBLE[case]) is None


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_could_not_is_rejected(case: str) -> None:
    found = unexplained(IMPOSSIBLE[case])
    assert found is not None
    assert "no order explains" in str(found)


def simulated(seed: int, num_calls: int = 300, width: float = 8.0) -> list[Record]:
    """Calls that take effect at 0, 1, 2, … and begin and end up to `width` before and after."""
    random, state = Random(seed), State()
    target, draws = Target("bot"), Draws(random, [OWNER, "globex"], ["globex"])
    records = []
    for moment in range(num_calls):
        target.adapter_etags[state.generation] = target.policy_etags[state.policy_generation] = ""
        action = draws.action(target, f"sha256:{moment}")
        reasons = action.refusals(state)
        if reasons:
            answer: Answer = Refused(random.choice(sorted(reasons)))
        else:
            answer, state = action.effect(state)
        if isinstance(answer, Numbered):
            target.digests[answer.version] = ""
        begin, end = moment - width * random.random(), moment + width * random.random()
        records.append(Record(action, answer, begin, end))
    return records


@pytest.mark.parametrize("seed", range(20))
def test_a_history_made_in_order_is_accepted(seed: int) -> None:
    assert unexplained(simulated(seed)) is None


@pytest.mark.parametrize("seed", range(5))
def test_lost_answers_leave_a_history_possible(seed: int) -> None:
    records = simulated(seed, 60)
    written = [i for i, r in enumerate(records) if r.action.writes and not r.is_pure]
    for index in Random(seed).sample(written, 3):
        records[index] = Record(records[index].action, None, records[index].begin)
    assert unexplained(records) is None


def test_many_lost_answers_are_no_trouble() -> None:
    """As when a database is down for a while: none of these calls took effect."""
    records = simulated(7)
    lost = [Record(SetAlias(f"a{n}", 1), None, 100.0) for n in range(30)]
    assert unexplained([*records, *lost]) is None


def _wrong_number(record: Record) -> Record | None:
    wrong = isinstance(record.action, Commit) and isinstance(record.answer, Numbered)
    return dataclasses.replace(record, answer=Numbered(10_000)) if wrong else None


def _other_allow_list(record: Record) -> Record | None:
    if not isinstance(record.answer, PolicyView):
        return None
    other = PolicyView(record.answer.allowed ^ GUEST, record.answer.generation)
    return dataclasses.replace(record, answer=other)


def _other_life(record: Record) -> Record | None:
    """Of one generation there is one view only."""
    if not isinstance(record.answer, AdapterView):
        return None
    other = dataclasses.replace(record.answer, deleted=not record.answer.deleted)
    return dataclasses.replace(record, answer=other)


def _no_reason(record: Record) -> Record | None:
    return dataclasses.replace(record, answer=Refused("UNKNOWN"))


def _too_late(record: Record) -> Record | None:
    """A change seen by whatever follows, recorded as if it had begun after everything."""
    late = isinstance(record.answer, AdapterView) and record.action.writes
    return dataclasses.replace(record, begin=9000.0, end=9001.0) if late else None


@pytest.mark.parametrize(
    "mutate", [_wrong_number, _other_allow_list, _other_life, _no_reason, _too_late]
)
def test_one_wrong_answer_among_many_is_found(mutate: Callable[[Record], Record | None]) -> None:
    for seed in range(6):
        records = simulated(seed)
        mutated = [(i, m) for i, r in enumerate(records[:-20]) if (m := mutate(r)) is not None]
        for index, wrong in Random(seed).sample(mutated, min(4, len(mutated))):
            history = [*records[:index], wrong, *records[index + 1 :]]
            assert unexplained(history) is not None, (seed, wrong)


def test_a_lost_race_needs_a_rival() -> None:
    loser = Record(Commit("sha256:c"), Refused(LOST_RACE), 2, 3)
    assert lost_races_without_rivals([COMMIT, loser])
    assert not lost_races_without_rivals([dataclasses.replace(COMMIT, end=2.5), loser])
