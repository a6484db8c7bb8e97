"""Finds an order of concurrent calls that explains every answer: linearizability.

Just-in-time linearization (Lowe, "Testing for linearizability", 2017), a search in the manner of
Wing and Gong. It goes through the calls' begins and ends in time order, and keeps every pair of a
state and the calls under way that have taken effect in it; equal pairs are kept once. Nothing takes
effect before some call's end demands it. When no pair is left, no order exists.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.registry.history.model import (
    Action,
    apply,
)
from tests.registry.history.state import (
    Answer,
    Refused,
    State,
)


@dataclass(frozen=True)
class Record:
    """One call. Without an answer it may or may not have taken effect, at any time since."""

    action: Action
    answer: Answer | None
    begin: float
    end: float = math.inf

    @property
    def is_pure(self) -> bool:
        """Whether it changed nothing: it may take effect as soon as its answer fits."""
        return not self.action.writes or isinstance(self.answer, Refused)


@dataclass(frozen=True)
class Unexplained:
    """The first call whose answer no order explains, and what ran beside it."""

    record: Record
    concurrent: tuple[Record, ...]
    states: frozenset[State]

    def __str__(self) -> str:
        lines = [f"no order explains {self.record}", "beside it ran:"]
        lines += [f"  {record}" for record in self.concurrent]
        return "\n".join([*lines, "in one of the states:", *(f"  {s}" for s in self.states)])


_Pair = tuple[State, frozenset[int]]


def unexplained(records: Sequence[Record], start: State | None = None) -> Unexplained | None:
    """None when the history is linearizable.

    First calls whose answers were lost take effect only where nothing else explains an answer: an
    order found like that is one, and is found soon. Only when there is none, all are tried.
    """
    known = [r for r in records if r.answer is not None or r.action.writes]
    begin = start or State()
    if _search(known, begin, lazily=True) is None:
        return None
    return _search(known, begin, lazily=False)


def _search(known: Sequence[Record], start: State, *, lazily: bool) -> Unexplained | None:
    lost = {index for index, record in enumerate(known) if record.answer is None}
    pairs: set[_Pair] = {(start, frozenset())}
    running: set[int] = set()
    for index, ends in _moments(known):
        if not ends:
            running.add(index)
            continue
        explained = _ended(known, pairs, running - lost if lazily else running, index)
        if lazily and not explained:
            explained = _ended(known, pairs, running, index)
        if not explained:
            states = frozenset(state for state, _ in pairs)
            beside = tuple(known[i] for i in sorted(running - {index}))
            return Unexplained(known[index], beside, states)
        pairs = explained
        running.remove(index)
    return None


def _moments(records: Sequence[Record]) -> Iterable[tuple[int, bool]]:
    """(index, whether it ends) in time order; of equal times a begin comes first."""
    begins = [(record.begin, False, i) for i, record in enumerate(records)]
    ends = [(record.end, True, i) for i, record in enumerate(records) if record.end < math.inf]
    return [(index, is_end) for _, is_end, index in sorted(begins + ends)]


def _ended(
    records: Sequence[Record], pairs: Iterable[_Pair], running: set[int], index: int
) -> set[_Pair]:
    """The pairs in which the call has taken effect, by whatever had to do so before it."""
    result: set[_Pair] = set()
    waiting = [_absorb(records, pair, running) for pair in pairs]
    seen = set(waiting)
    while waiting:
        state, taken = waiting.pop()
        if index in taken:
            result.add((state, taken - {index}))
            continue
        for candidate in running - taken:
            record = records[candidate]
            after = None if record.is_pure else apply(record.action, record.answer, state)
            if after is None:
                continue
            pair = _absorb(records, (after, taken | {candidate}), running)
            if pair not in seen:
                seen.add(pair)
                waiting.append(pair)
    return result


def _absorb(records: Sequence[Record], pair: _Pair, running: set[int]) -> _Pair:
    """Lets every call that changes nothing and fits take effect: waiting could win it nothing."""
    state, taken = pair
    fitting = {
        index
        for index in running - taken
        if records[index].is_pure
        and apply(records[index].action, records[index].answer, state) is not None
    }
    return state, taken | fitting
