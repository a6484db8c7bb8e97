"""A meter against the plain account of it, and what its waiting times promise."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_service.rate_meter import RateMeter


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make(per_minute: int | None) -> tuple[RateMeter, Clock]:
    clock = Clock()
    meter = RateMeter(clock)
    meter.limit(per_minute)
    return meter, clock


def test_a_minutes_worth_at_once_then_the_rate() -> None:
    meter, clock = make(60)
    for _ in range(60):
        assert meter.seconds_until_room == 0
        meter.use(1)
    assert meter.seconds_until_room == pytest.approx(1)
    clock.now += 10
    for _ in range(10):
        assert meter.seconds_until_room == pytest.approx(0, abs=1e-9)
        meter.use(1)
    assert meter.seconds_until_room == pytest.approx(1)


def test_a_debt_is_paid_before_there_is_room() -> None:
    meter, clock = make(600)
    meter.use(6000)
    assert meter.seconds_until_room == pytest.approx(540.1)
    clock.now += 540
    assert meter.seconds_until_room == pytest.approx(0.1)


def test_no_limit_measures_nothing_and_a_limit_of_zero_lets_nothing_pass() -> None:
    meter, _ = make(None)
    meter.use(10**9)
    assert (meter.seconds_until_room, meter.is_idle) == (0, True)
    meter.limit(0)
    assert meter.seconds_until_room == math.inf
    meter.limit(1)
    assert meter.seconds_until_room == 0


def test_a_higher_rate_counts_at_once_and_a_lower_one_takes_no_longer() -> None:
    meter, clock = make(10)
    for _ in range(10):
        meter.use(1)
    meter.limit(100)
    assert meter.seconds_until_room == 0
    for _ in range(90):
        meter.use(1)
    assert meter.seconds_until_room == pytest.approx(0.6)
    meter.limit(1)  # all of it was used, as before
    assert meter.seconds_until_room == pytest.approx(60)
    clock.now += 60
    assert meter.seconds_until_room == pytest.approx(0, abs=1e-9)


@given(
    per_minute=st.integers(1, 10**6),
    uses=st.lists(st.tuples(st.floats(0, 120), st.integers(1, 10**5)), max_size=50),
)
def test_who_waits_as_long_as_told_has_room(per_minute: int, uses: list[tuple[float, int]]) -> None:
    meter, clock = make(per_minute)
    admitted = 0
    for pause, amount in uses:
        clock.now += pause
        clock.now += meter.seconds_until_room * (1 + 1e-9)
        assert meter.seconds_until_room <= 1e-6
        meter.use(amount)
        admitted += amount
    largest = max((amount for _, amount in uses), default=0)
    elapsed = clock.now - 1000.0
    assert admitted <= per_minute * (1 + elapsed / 60) + largest + 1
