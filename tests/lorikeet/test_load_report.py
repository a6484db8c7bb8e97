"""Figures from samples that are made up, so that each is known."""

import pytest

from lorikeet.load.generator import Measured
from lorikeet.load.report import Percentiles, Report
from lorikeet.load.sample import Arrival, Sample
from lorikeet.load.workload import PlannedRequest


def sample(
    *arrivals: tuple[float, int],
    adapter: str = "a",
    tenant: str = "",
    due: float = 10.0,
    sent: float = 10.0,
    failure: str = "",
    planned: int = 5,
) -> Sample:
    return Sample(
        request=PlannedRequest(0, 0.0, adapter, tenant, 8, planned),
        due=due,
        sent=sent,
        ended=arrivals[-1][0] if arrivals else sent,
        arrivals=tuple(Arrival(at, count) for at, count in arrivals),
        failure=failure,
        prompt_tokens=8,
        output_tokens=5,
        cached_tokens=2,
    )


def test_percentiles_are_values_that_were_measured() -> None:
    found = Percentiles.of(range(1, 101))
    assert found == Percentiles(50, 90, 99, 100)
    assert Percentiles.of([7.0]) == Percentiles(7, 7, 7, 7)
    assert Percentiles.of([]) == Percentiles(None, None, None, None)


def test_tokens_that_came_together_share_their_gap() -> None:
    assert sample((11.0, 1), (12.0, 4), (14.0, 1)).gaps() == [0.25] * 4 + [2.0]


def test_delays_count_from_when_a_request_was_due() -> None:
    late = sample((11.0, 1), (12.0, 1), due=9.0, sent=10.5)
    figures = Report.of(Measured((late,), 4.0, ())).all
    assert figures.to_first_token.p50 == pytest.approx(2.0)
    assert figures.end_to_end.p50 == pytest.approx(3.0)


def test_throughput_failures_and_groups() -> None:
    samples = (
        sample((11.0, 3), (12.0, 2), tenant="x"),
        sample((11.0, 1), failure="ACCESS_REVOKED", tenant="y"),
        sample(failure="QUEUE_FULL", adapter="b", tenant="y"),
        sample(failure="QUEUE_FULL", adapter="b", tenant="y"),
    )
    report = Report.of(Measured(samples, 2.0, ()))
    assert report.all.failures == {"QUEUE_FULL": 2, "ACCESS_REVOKED": 1}
    assert (report.all.num_requests, report.all.num_failed) == (4, 3)
    assert report.all.requests_per_second == 0.5
    assert report.all.output_tokens_per_second == 3.0
    assert report.all.prompt_tokens_per_second == 4.0
    assert report.all.cached_prompt_share == 0.25
    assert {name: figures.num_requests for name, figures in report.by_adapter.items()} == {
        "a": 2,
        "b": 2,
    }
    assert report.by_tenant["y"].num_failed == 3


def test_a_late_generator_says_so() -> None:
    on_time, late = sample((11.0, 1)), sample((11.0, 1), due=9.9)
    assert not Report.of(Measured((on_time,), 1.0, (0.001,))).is_late
    assert Report.of(Measured((late,), 1.0, ())).is_late
    assert Report.of(Measured((on_time,), 1.0, (0.5,))).is_late


def test_requests_without_room_in_the_model_are_counted() -> None:
    samples = (sample((11.0, 1)), sample((11.0, 1), planned=6))
    assert Report.of(Measured(samples, 1.0, ())).num_cut == 1
