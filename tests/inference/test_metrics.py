"""What a scrape of the inference service says, and what it costs to label."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from inference_service.engine.request import TokenOutput
from inference_service.metrics.bounded_labels import OTHERS, BoundedLabels
from inference_service.service import InferenceService
from lorikeet.rpc.errors import InvalidArgumentError, PermissionDeniedError, UnavailableError
from lorikeet.rpc.metrics import MetricsListenError
from lorikeet.rpc.server import InsecureBindError
from protos import inference_pb2 as pb
from tests.inference.scripted_engine import ScriptedEngine, tokens
from tests.inference.world import (
    BASE_MODEL,
    World,
    eventually,
    running_registry,
    running_world,
    settings_for,
)
from tests.scrapes import Samples, labels_of, scrape_of, value

MODEL = {"model_name": BASE_MODEL}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running_world(tmp_path, metrics_listen="127.0.0.1:0") as running:
        yield running


async def scrape(world: World) -> Samples:
    assert world.service.metrics_address is not None
    return await asyncio.to_thread(scrape_of, world.service.metrics_address)


async def test_a_request_is_counted_by_its_end_its_phases_and_its_tokens(world: World) -> None:
    user = await world.user("acme")
    version = await world.publish("acme", "math")
    await user.generate("math", prompt="hello there")
    await user.generate("math", prompt="hello there")
    await user.generate(prompt="hello there")
    with pytest.raises(PermissionDeniedError):
        await user.generate("globex/nothing")
    with pytest.raises(InvalidArgumentError):
        await user.generate(sampling=pb.SamplingParams(top_p=7))
    samples = await scrape(world)
    outcomes = "lorikeet_requests_total"
    assert value(samples, outcomes, outcome="length") == 3
    assert value(samples, outcomes, outcome="PERMISSION_DENIED") == 1
    assert value(samples, outcomes, outcome="INVALID_SAMPLING") == 1
    phases = "lorikeet_request_phase_seconds_count"
    for phase, count in {"admission": 5, "prompt": 3, "adapter": 3, "decode": 3}.items():
        assert value(samples, phases, phase=phase) == count, phase
    for phase in ("queue", "prefill"):
        assert value(samples, phases, phase=phase) == 3
    first = "lorikeet_time_to_first_token_seconds_count"
    for found_on in ("remote", "device", "base"):
        assert value(samples, first, found_on=found_on) == 1
    of_tenant = "lorikeet_tenant_time_to_first_token_seconds_count"
    assert value(samples, of_tenant, tenant="acme") == 3
    used = {"tenant": "acme", "adapter_version": version.name}
    assert value(samples, "lorikeet_usage_requests_total", **used) == 2
    assert value(samples, "lorikeet_usage_completion_tokens_total", **used) == 6
    alone = {"tenant": "acme", "adapter_version": f"baseModels/{BASE_MODEL}"}
    assert value(samples, "lorikeet_usage_requests_total", **alone) == 2
    assert value(samples, "lorikeet_usage_completion_tokens_total", **alone) == 3
    assert value(samples, "lorikeet_tokens_generated_total") == 9
    assert value(samples, "lorikeet_inter_token_seconds_count") == 6
    method = {"method": "Inference/Generate"}
    assert value(samples, "lorikeet_rpc_seconds_count", **method, code="OK") == 3
    denied = value(samples, "lorikeet_rpc_failures_total", **method, reason="PERMISSION_DENIED")
    assert denied == 1


async def test_the_prefix_cache_and_the_queue_are_told_by_the_engine(world: World) -> None:
    user = await world.user("acme")
    world.engine.steps = [
        TokenOutput(0, [70], num_cached=2, queue_seconds=1e-9),
        tokens(71, 72, finish="stop"),
    ]
    await user.generate(prompt="hello")
    samples = await scrape(world)
    alone = {"tenant": "acme", "adapter_version": f"baseModels/{BASE_MODEL}"}
    assert value(samples, "lorikeet_usage_cached_tokens_total", **alone) == 2
    queued = value(samples, "lorikeet_request_phase_seconds_sum", phase="queue")
    assert 0 < queued < 1e-8
    assert value(samples, "lorikeet_inter_token_seconds_count") == 2


async def test_waiting_in_vain_is_time_too(world: World) -> None:
    user = await world.user("acme")
    world.engine.steps = [60.0]
    call = user.call("Generate", pb.GenerateRequest(prompt="x"), timeout=60)
    await call.read()
    await eventually(lambda: world.engine.calls)
    call.cancel()
    await eventually(lambda: not world.service.requests.admitted())
    samples = await scrape(world)
    assert value(samples, "lorikeet_requests_total", outcome="CANCELLED") == 1
    phases = "lorikeet_request_phase_seconds_count"
    assert value(samples, phases, phase="unanswered") == 1
    assert not value(samples, phases, phase="queue")


async def test_what_is_resident_where(world: World) -> None:
    user = await world.user("acme")
    version = await world.publish("acme", "math")
    await user.generate("math")
    samples = await scrape(world)
    assert value(samples, "lorikeet_adapters", tier="device") == 1
    assert value(samples, "lorikeet_adapters", tier="disk") == 1
    assert value(samples, "lorikeet_adapter_bytes", tier="disk") == version.size_bytes
    assert value(samples, "lorikeet_warm_adapters", state="wanted") == 0
    resident = {"adapter_version": version.name, "tier": "device"}
    assert value(samples, "lorikeet_adapter_resident", **resident) == 1
    pages = {use: value(samples, "lorikeet_pages", use=use) for use in ("adapter", "free")}
    assert pages == {"adapter": 3, "free": 7}
    assert value(samples, "lorikeet_device_memory_bytes", kind="available") == 60
    assert value(samples, "lorikeet_adapter_download_bytes_total") == version.size_bytes
    assert value(samples, "lorikeet_adapter_download_seconds_count", outcome="ok") == 2  # files
    await world.service.stop()  # the engine and the metrics end in order


async def test_routers_find_what_they_read(world: World) -> None:
    user = await world.user("acme")
    await world.publish("acme", "math")
    world.engine.steps = [tokens(70), 60.0]
    call = user.call("Generate", pb.GenerateRequest(adapter="math", prompt="x"), timeout=60)
    for _ in range(2):
        await call.read()
    before = time.time()
    samples = await scrape(world)
    (lora,) = labels_of(samples, "vllm:lora_requests_info")
    assert lora == {
        "max_lora": "8",
        "running_lora_adapters": "acme/math@1",
        "waiting_lora_adapters": "",
    }
    assert before <= value(samples, "vllm:lora_requests_info", **lora) <= time.time()
    assert value(samples, "vllm:num_requests_running", **MODEL) == 1
    assert value(samples, "vllm:num_requests_waiting", **MODEL) == 0
    for name in ("kv_cache_usage_perc", "gpu_cache_usage_perc"):
        assert (f"vllm:{name}", frozenset(MODEL.items())) in samples
    (blocks,) = labels_of(samples, "vllm:cache_config_info")
    assert blocks == {**MODEL, "block_size": "16", "num_gpu_blocks": "7"}
    call.cancel()


async def test_vllm_histograms_and_counters_have_its_names(world: World) -> None:
    user = await world.user("acme")
    await user.generate(prompt="hello")
    samples = await scrape(world)
    for name in (
        "time_to_first_token_seconds",
        "e2e_request_latency_seconds",
        "request_queue_time_seconds",
        "request_prefill_time_seconds",
        "request_decode_time_seconds",
    ):
        assert value(samples, f"vllm:{name}_count", **MODEL) == 1, name
    for name in ("inter_token_latency_seconds", "time_per_output_token_seconds"):
        assert value(samples, f"vllm:{name}_count", **MODEL) == 2
    assert value(samples, "vllm:generation_tokens_total", **MODEL) == 3
    assert value(samples, "vllm:prompt_tokens_total", **MODEL) > 0
    finished = dict.fromkeys(("stop", "abort", "error"), 0.0) | {"length": 1.0}
    for reason, count in finished.items():
        labels = {**MODEL, "finished_reason": reason}
        assert value(samples, "vllm:request_success_total", **labels) == count
    for name in ("prefix_cache_queries", "prefix_cache_hits", "num_preemptions"):
        assert (f"vllm:{name}_total", frozenset(MODEL.items())) in samples


async def test_an_outage_of_the_registry_is_seen(world: World) -> None:
    user = await world.user("acme")
    await world.publish("acme", "math")
    samples = await scrape(world)
    assert value(samples, "lorikeet_registry_watch_age_seconds") < 30
    lease = value(samples, "lorikeet_registry_lease_seconds")
    assert 0 < lease <= 60
    await world.stop_registry()
    with pytest.raises(UnavailableError):
        await user.generate("math")
    samples = await scrape(world)
    assert value(samples, "lorikeet_requests_total", outcome="REGISTRY_UNAVAILABLE") == 1
    assert value(samples, "lorikeet_registry_lease_seconds") < lease


async def test_without_an_engine_the_scrape_still_answers(world: World) -> None:
    samples = await scrape(world)
    assert value(samples, "lorikeet_engine_up") == value(samples, "lorikeet_serving") == 1
    world.engine.die()
    samples = await scrape(world)
    assert value(samples, "lorikeet_engine_up") == 0
    assert value(samples, "lorikeet_engine_ends_total", reason="failed") == 1
    assert value(samples, "lorikeet_serving") == 0
    assert not labels_of(samples, "lorikeet_pages")


async def start_failure(root: Path, metrics_listen: str) -> Exception:
    """Why a service with this address for its metrics does not start."""
    async with running_registry(root) as (_, registry_address, _admin):
        settings = settings_for(root, registry_address, metrics_listen=metrics_listen)
        service = InferenceService(settings, ScriptedEngine().attach)
        try:
            with pytest.raises((InsecureBindError, MetricsListenError)) as failure:
                await service.start()
        finally:
            await service.stop()
    return failure.value


async def test_metrics_name_tenants_so_they_stay_on_this_machine(tmp_path: Path) -> None:
    error = await start_failure(tmp_path, "0.0.0.0:0")
    assert "refusing to listen on 0.0.0.0:0" in str(error)


async def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        error = await start_failure(tmp_path, address)
    assert f"cannot serve metrics on {address}" in str(error)


def test_labels_are_bounded_and_stay_what_they_are() -> None:
    labels = BoundedLabels(2)
    assert [labels.of(name) for name in ("a", "b", "c", "a", "d", "b")] == [
        *("a", "b", OTHERS, "a", OTHERS, "b")
    ]
