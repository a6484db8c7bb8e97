"""The limits of tenants as the front end counts them, on a clock that tests move."""

from contextlib import ExitStack

import pytest

from inference_service.serving_limits import ServingLimits
from inference_service.tenant_meters import TenantMeters
from lorikeet.rpc.errors import ResourceExhaustedError
from protos import registry_pb2
from tests.inference.test_rate_meter import Clock


def refusal(meters: TenantMeters, limits: ServingLimits, places: int = 1) -> ResourceExhaustedError:
    with pytest.raises(ResourceExhaustedError) as caught:
        meters.of("acme", limits).check(places)
    return caught.value


def test_a_tenants_own_limits_replace_the_defaults_one_by_one() -> None:
    defaults = ServingLimits(max_concurrent_requests=4, max_tokens_per_minute=100)
    own = registry_pb2.ServingLimits(weight=3, max_concurrent_requests=0)
    assert defaults.overridden(own) == ServingLimits(3, 0, None, 100)
    assert defaults.overridden(registry_pb2.ServingLimits()) == defaults


def test_places_are_counted_while_they_are_held() -> None:
    meters, limits = TenantMeters(Clock()), ServingLimits(max_concurrent_requests=4)
    meter = meters.of("acme", limits)
    with meter.request(3):
        meter.check(1)
        error = refusal(meters, limits, 2)
        assert (error.reason, error.retry_after) == ("TENANT_CONCURRENCY", 1.001)
        assert error.quota_violations[0].subject == "tenants/acme"
        assert "3 open, 2 more asked for" in error.quota_violations[0].description
        meters.of("globex", limits).check(4)
    meter.check(4)


def test_no_time_to_retry_after_where_waiting_does_not_help() -> None:
    meters = TenantMeters(Clock())
    assert refusal(meters, ServingLimits(max_concurrent_requests=2), 3).retry_after is None
    for limits in (
        ServingLimits(max_concurrent_requests=0),
        ServingLimits(max_requests_per_minute=0),
        ServingLimits(max_tokens_per_minute=0),
    ):
        assert refusal(meters, limits).retry_after is None


def test_waiting_as_long_as_told_is_enough() -> None:
    clock = Clock()
    meters, limits = TenantMeters(clock), ServingLimits(max_requests_per_minute=7)
    for _ in range(7):
        meters.of("acme", limits).check(1)
        with meters.of("acme", limits).request(1):
            pass
    for _ in range(100):
        error = refusal(meters, limits)
        assert (error.reason, error.metadata["limit"]) == (
            "TENANT_REQUEST_RATE",
            "max_requests_per_minute",
        )
        assert error.retry_after is not None
        clock.now += error.retry_after - 0.002
        refusal(meters, limits)
        clock.now += 0.002
        meters.of("acme", limits).check(1)
        with meters.of("acme", limits).request(1):
            pass


def test_who_is_at_two_limits_is_told_the_longer_time() -> None:
    limits = ServingLimits(max_requests_per_minute=1, max_tokens_per_minute=60)
    meters = TenantMeters(Clock())
    meter = meters.of("acme", limits)
    with meter.request(1):
        meter.use_tokens(60)
    assert refusal(meters, limits).retry_after == pytest.approx(60, abs=0.01)
    meter.use_tokens(60)
    error = refusal(meters, limits)
    assert error.reason == "TENANT_TOKEN_RATE"
    assert error.retry_after == pytest.approx(61, abs=0.01)


def test_prefetches_are_bounded_by_themselves() -> None:
    meter = TenantMeters(Clock()).of("acme", ServingLimits())
    with meter.prefetch(1):
        assert not meter.is_idle
        with pytest.raises(ResourceExhaustedError) as caught, meter.prefetch(1):
            pass
        assert caught.value.metadata == {"limit": "max_prefetches", "value": "1"}
    with meter.prefetch(1):
        pass


def test_idle_tenants_are_forgotten_without_credit() -> None:
    clock, limits = Clock(), ServingLimits(max_requests_per_minute=1)
    meters = TenantMeters(clock)
    with ExitStack() as stack:
        stack.enter_context(meters.of("running", limits).request(1))
        for number in range(10_000):
            clock.now += 0.1  # so that 600 have used their minute at any time
            with meters.of(f"t{number}", limits).request(1):
                pass
        assert len(meters) < 2500
        with pytest.raises(ResourceExhaustedError):
            meters.of("t9500", limits).check(1)
        clock.now += 61
        meters.of("running", ServingLimits(max_concurrent_requests=2)).check(1)
        with pytest.raises(ResourceExhaustedError):
            meters.of("running", ServingLimits(max_concurrent_requests=1)).check(1)
