"""The load generator of `lorikeet bench` against the real service."""

import asyncio
import itertools
from collections.abc import Iterator

import pytest

from lorikeet.client import AsyncClient
from lorikeet.load.generator import LoadGenerator
from lorikeet.load.prompts import Prompts
from lorikeet.load.report import Report
from lorikeet.load.sample import Sample
from lorikeet.load.workload import PlannedRequest, parse_workload, plan
from tests.inference.test_limits import grant
from tests.inference.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")
MAX_MODEL_LEN = 128


def requests_of(count: int, rate: float | None = None) -> Iterator[PlannedRequest]:
    workload = parse_workload("zipf")
    planned = plan(workload, adapters=["math", ""], tenants=[""], rate=rate, seed=0)
    return itertools.islice(planned, count)


async def test_both_loops_measure_every_request(world: World) -> None:
    key = await world.key("loaded")
    await world.publish("loaded", "math")
    told: list[Sample] = []
    async with AsyncClient(world.address, key) as client:
        prompts = await Prompts.of_model(client, "salt")
        generator = LoadGenerator(client, prompts, MAX_MODEL_LEN, told.append)
        closed = await generator.closed(requests_of(20), concurrency=4)
        opened = await generator.opened(requests_of(20, rate=200))
    for measured in (closed, opened):
        report = Report.of(measured)
        assert (report.all.num_requests, report.all.failures) == (20, {})
        assert [len(sample.arrivals) for sample in measured.samples] == [3] * 20
        assert all(sample.due <= sample.sent <= sample.ended for sample in measured.samples)
        assert set(report.by_adapter) == {"", "math"}
    assert len(told) == 40
    assert {len(call.prompt_token_ids) for call in world.engine.calls} == {64}


async def test_refusals_are_told_by_reason(world: World) -> None:
    key = await world.key("limited")
    await grant(world, "limited", max_requests_per_minute=8)
    async with AsyncClient(world.address, key) as client:
        prompts = await Prompts.of_model(client, "salt")  # which is the first request
        generator = LoadGenerator(client, prompts, MAX_MODEL_LEN)
        planned = plan(parse_workload("identical"), adapters=[""], tenants=[""], rate=None, seed=0)
        measured = await generator.closed(itertools.islice(planned, 40), concurrency=4)
    failures = Report.of(measured).all.failures
    assert failures.keys() == {"TENANT_REQUEST_RATE"}
    assert 25 <= failures["TENANT_REQUEST_RATE"] <= 33


async def test_after_its_time_a_closed_loop_begins_nothing_more(world: World) -> None:
    key = await world.key("timed")
    async with AsyncClient(world.address, key) as client:
        prompts = await Prompts.of_model(client, "salt")
        generator = LoadGenerator(client, prompts, MAX_MODEL_LEN)
        planned = plan(parse_workload("identical"), adapters=[""], tenants=[""], rate=None, seed=0)
        async with asyncio.timeout(20):
            measured = await generator.closed(planned, concurrency=2, seconds=0.2)
    assert measured.samples
    assert Report.of(measured).all.num_failed == 0
