"""The queue's bound, and shutting it."""

import asyncio
from contextlib import ExitStack

import pytest

from inference_service.admission import Admission
from lorikeet.rpc.errors import ResourceExhaustedError, UnavailableError


async def test_a_full_queue_refuses_with_a_hint_when_to_retry() -> None:
    admission = Admission(max_waiting=2, max_waiting_per_tenant=2)
    with admission.ticket("a") as first, admission.ticket("b"):
        with pytest.raises(ResourceExhaustedError) as error, admission.ticket("c"):
            pass
        assert error.value.retry_after
        first.started_running()
        with admission.ticket("c"):
            assert admission.num_waiting == 2
    assert admission.num_waiting == 0


async def test_one_tenant_cannot_take_the_whole_queue() -> None:
    admission = Admission(max_waiting=10, max_waiting_per_tenant=2)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(admission.ticket("noisy"))
        with pytest.raises(ResourceExhaustedError), admission.ticket("noisy"):
            pass
        with admission.ticket("quiet"):
            pass


async def test_a_request_waits_as_often_as_it_has_completions() -> None:
    admission = Admission(max_waiting=3, max_waiting_per_tenant=3)
    with admission.ticket("a", num_completions=4) as ticket:
        assert admission.num_waiting == 4
        with pytest.raises(ResourceExhaustedError), admission.ticket("b"):
            pass
        ticket.started_running()
        ticket.started_running()
        with admission.ticket("b"):
            assert admission.num_waiting == 3
    assert admission.num_waiting == 0


async def test_closing_waits_for_running_requests_and_refuses_new_ones() -> None:
    admission = Admission(max_waiting=2, max_waiting_per_tenant=2)
    with admission.arrival():
        assert admission.num_open == 1
        admission.close()
        closing = asyncio.create_task(admission.wait_until_idle())
        await asyncio.sleep(0.01)
        assert not closing.done()
        with pytest.raises(UnavailableError), admission.ticket("a"):
            pass
        with pytest.raises(UnavailableError), admission.arrival():
            pass
    await asyncio.wait_for(closing, 1)
