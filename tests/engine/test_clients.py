"""Both engine clients: the same behaviour through a thread and through a process."""

import asyncio
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from inference_service.engine.adapter_files import declared_files
from inference_service.engine.client import EngineClient, EngineDiedError, EngineRefusedError
from inference_service.engine.config import EngineConfig
from inference_service.engine.in_process import InProcessEngineClient
from inference_service.engine.process import ChildEngineClient
from inference_service.engine.request import SamplingOptions

LONG = SamplingOptions(temperature=0.0, max_tokens=200)
SHORT = SamplingOptions(temperature=0.0, max_tokens=8)


@pytest.fixture(params=["child", "in_process"])
async def client(request: pytest.FixtureRequest, model_path: Path) -> AsyncIterator[EngineClient]:
    config = EngineConfig(str(model_path), memory_bytes=8 << 20, num_threads=1)
    made: EngineClient = (
        ChildEngineClient(config) if request.param == "child" else InProcessEngineClient(config)
    )
    await made.start()
    yield made
    await made.close()
    assert not made.is_alive


async def tokens_of(
    client: EngineClient, prompt: list[int], sampling: SamplingOptions, digest: str = ""
) -> list[int]:
    outputs = [o async for o in client.generate(prompt, sampling, digest, "tenant")]
    assert outputs[-1].finish_reason
    return [token for output in outputs for token in output.token_ids]


async def test_concurrent_streams_equal_solo_ones(
    client: EngineClient, adapter_paths: dict[str, Path]
) -> None:
    digests = ["", "r3", "r33"]
    for digest in digests[1:]:
        path = adapter_paths[digest]
        residency = await client.load_adapter(digest, path, declared_files(path))
        assert residency.tier == "device"
        assert residency.pages > 0
    prompts = [[3 + i, 4, 5] for i in range(6)]
    jobs = [(prompt, digest) for prompt in prompts for digest in digests]
    together = await asyncio.gather(*(tokens_of(client, p, SHORT, d) for p, d in jobs))
    alone = [await tokens_of(client, prompt, SHORT, digest) for prompt, digest in jobs]
    assert together == alone
    stats = await client.stats()
    assert stats.kv_pages == 0
    assert {a.digest: a.running_requests for a in stats.adapters} == {"r3": 0, "r33": 0}
    assert await client.unload_adapter("r3") > 0


async def test_closing_a_stream_frees_its_pages(client: EngineClient) -> None:
    stream = client.generate([2, 3, 4], LONG, "", "tenant")
    await anext(stream)
    assert (await client.stats()).num_running == 1
    await stream.aclose()
    stats = await client.stats()
    assert (stats.num_running, stats.kv_pages) == (0, 0)


async def test_refusals_name_their_reason(client: EngineClient, tmp_path: Path) -> None:
    with pytest.raises(EngineRefusedError) as refused:
        await client.load_adapter("digest", tmp_path, {})
    assert refused.value.reason == "ADAPTER_INVALID"
    with pytest.raises(EngineRefusedError) as refused:
        await tokens_of(client, [1], SHORT, "other")
    assert refused.value.reason == "ADAPTER_UNKNOWN"
    with pytest.raises(EngineRefusedError) as refused:
        await client.unload_adapter("other")
    assert refused.value.reason == "ADAPTER_UNKNOWN"


async def test_a_killed_engine_ends_its_streams_and_comes_back(model_path: Path) -> None:
    health: list[bool] = []
    changed = asyncio.Event()

    def record(healthy: bool) -> None:
        health.append(healthy)
        changed.set()

    config = EngineConfig(str(model_path), memory_bytes=8 << 20, num_threads=1)
    client = ChildEngineClient(config, on_health_change=record)
    async with contextlib.AsyncExitStack() as stack:
        await client.start()
        stack.push_async_callback(client.close)
        before = await tokens_of(client, [5, 6], SHORT)
        stream = client.generate([2, 3], LONG, "", "tenant")
        await anext(stream)
        assert client.process_id is not None
        began = time.monotonic()
        os.kill(client.process_id, signal.SIGKILL)
        with pytest.raises(EngineDiedError):
            async for _ in stream:
                pass
        assert time.monotonic() - began < 5
        with pytest.raises(EngineDiedError):
            await client.stats()
        while not client.is_alive:
            changed.clear()
            await asyncio.wait_for(changed.wait(), 30)
        assert await tokens_of(client, [5, 6], SHORT) == before
        assert {reason for reason, count in client.ends.items() if count} == {"killed"}
    assert health == [True, False, True, False]


def names_in(directory: str) -> list[str]:
    return [path.name for path in Path(directory).iterdir()]


async def test_a_running_engine_has_no_path(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that others could connect to, or that stays when its front end is killed."""
    is_up = asyncio.Event()

    def record(healthy: bool) -> None:
        if healthy:
            is_up.set()

    with tempfile.TemporaryDirectory() as directory:  # pytest's own are too long for a socket
        monkeypatch.setattr(tempfile, "tempdir", directory)
        config = EngineConfig(str(model_path), memory_bytes=8 << 20, num_threads=1)
        client = ChildEngineClient(config, on_health_change=record)
        async with contextlib.AsyncExitStack() as stack:
            await client.start()
            stack.push_async_callback(client.close)
            assert names_in(directory) == []
            is_up.clear()
            assert client.process_id is not None
            os.kill(client.process_id, signal.SIGKILL)
            await asyncio.wait_for(is_up.wait(), 30)
            assert names_in(directory) == []
            assert await tokens_of(client, [5, 6], SHORT)


async def test_a_checkpoint_it_cannot_serve_fails_the_start(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    client = ChildEngineClient(EngineConfig(str(tmp_path)))
    with pytest.raises(EngineDiedError):
        await client.start()
    await client.close()


async def test_no_engine_outlives_its_client(model_path: Path) -> None:
    client = ChildEngineClient(EngineConfig(str(model_path), memory_bytes=8 << 20))
    await client.start()
    assert client.process_id is not None
    process = psutil.Process(client.process_id)
    await client.close()
    assert not process.is_running()
