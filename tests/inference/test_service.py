"""Starting, health and stopping of the whole front end."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from inference_service.config import CredentialsError, Settings, read_api_key
from inference_service.engine.client import EngineDiedError
from inference_service.service import InferenceService
from inference_service.start_checks import StartError
from lorikeet.rpc.errors import UnavailableError
from lorikeet.rpc.server import InsecureBindError
from protos import inference_pb2 as pb
from tests.inference.scripted_engine import ScriptedEngine, tokens
from tests.inference.world import (
    World,
    eventually,
    running_registry,
    running_world,
    settings_for,
    write_base_model,
)

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def start_and_stop(settings: Settings, engine: ScriptedEngine) -> None:
    service = InferenceService(settings, engine.attach)
    try:
        await service.start()
    finally:
        await service.stop()
        assert engine.closed


async def test_it_refuses_to_serve_another_model_than_registered(tmp_path: Path) -> None:
    async with running_registry(tmp_path) as (_, address, _):
        settings = settings_for(tmp_path, address)
        config = json.loads((settings.model / "config.json").read_text())
        (settings.model / "config.json").write_text(json.dumps({**config, "hidden_size": 32}))
        with pytest.raises(StartError, match="is not the registered base model 'tiny'"):
            await start_and_stop(settings, ScriptedEngine())
        write_base_model(tmp_path)
        changes: list[tuple[dict[str, Any], str]] = [
            ({"base_model": "other"}, "'other' is not registered"),
            ({"revision": "r2"}, "registered at revision 'r1', not 'r2'"),
        ]
        for change, message in changes:
            with pytest.raises(StartError, match=message):
                await start_and_stop(settings_for(tmp_path, address, **change), ScriptedEngine())
        await start_and_stop(settings_for(tmp_path, address, revision="r1"), ScriptedEngine())


async def test_it_says_why_it_cannot_start(tmp_path: Path) -> None:
    async with running_registry(tmp_path) as (stop_registry, address, _):
        engine = ScriptedEngine()
        engine.start_error = EngineDiedError("the checkpoint is bad")
        with pytest.raises(EngineDiedError):
            await start_and_stop(settings_for(tmp_path, address), engine)
        await stop_registry()
        settings = settings_for(tmp_path, address, registry_wait_seconds=0.3)
        with pytest.raises(StartError, match="cannot be reached"):
            await start_and_stop(settings, ScriptedEngine())


async def test_plaintext_stays_on_loopback_unless_told_otherwise(tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "credentials.json").write_text('{"inference": "key"}')
    with pytest.raises(StartError, match="without TLS"):
        InferenceService(settings_for(tmp_path, "10.0.0.1:1"), ScriptedEngine().attach)
    with pytest.raises(InsecureBindError):
        InferenceService(
            settings_for(tmp_path, "127.0.0.1:1", listen="0.0.0.0:0"), ScriptedEngine().attach
        )


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"inference": ""}', '{"inference": 1}'])
def test_bad_credentials_files_are_named_not_shown(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "credentials.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CredentialsError, match=r"credentials\.json"):
        read_api_key(path)


def test_settings_come_from_the_command_line_and_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LORIKEET_INFERENCE_BASE_MODEL", "from-environment")
    monkeypatch.setenv("LORIKEET_INFERENCE_MAX_NUM_SEQS", "7")
    arguments = "--model m --registry r:1 --credentials c --data-dir d --memory 512MiB"
    settings = Settings(  # type: ignore[call-arg]
        _cli_parse_args=[*arguments.split(), "--max-num-seqs", "9", "--insecure"]
    )
    config = settings.engine_config()
    assert (settings.base_model, settings.insecure) == ("from-environment", True)
    assert (config.memory_bytes, config.max_num_seqs) == (512 * 1024 * 1024, 9)


async def health_of(world: World) -> int:
    stub = health_pb2_grpc.HealthStub(world.channel)
    answer = await stub.Check(
        health_pb2.HealthCheckRequest(service="lorikeet.inference.v1.Inference")
    )
    return int(answer.status)


async def test_health_follows_the_engine(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        assert await health_of(world) == SERVING
        world.engine.die()
        await asyncio.sleep(0.1)
        assert await health_of(world) == NOT_SERVING
        world.engine.restart()
        await asyncio.sleep(0.1)
        assert await health_of(world) == SERVING


async def test_stopping_lets_a_stream_end_within_the_grace(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        user = await world.user("patient")
        world.engine.steps = [tokens(70), 0.3, tokens(71, finish="length")]
        running = asyncio.create_task(user.generate())
        await eventually(lambda: world.engine.calls)
        stopping = asyncio.create_task(world.service.stop())
        await asyncio.sleep(0.05)
        with pytest.raises(UnavailableError):
            await user.generate()
        assert (await running).token_ids == [70, 71]
        await stopping


async def test_stopping_ends_what_goes_on_after_the_grace(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        user = await world.user("endless")
        world.engine.steps = [tokens(70), 60.0]
        call = user.call("Generate", pb.GenerateRequest(prompt="x"), timeout=None)
        await call.read()
        await call.read()
        started = time.monotonic()
        await world.service.stop()
        assert time.monotonic() - started < 2.5
        with pytest.raises(aio.AioRpcError) as ended:
            await call.read()
        assert ended.value.code().name == "UNAVAILABLE"
        await eventually(lambda: world.engine.calls[0].closed)


async def test_an_idle_service_stops_at_once_even_while_its_health_is_watched(
    tmp_path: Path,
) -> None:
    async with running_world(tmp_path, shutdown_grace_seconds=10) as world:
        stub = health_pb2_grpc.HealthStub(world.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        started = time.monotonic()
        await world.service.stop()
        assert time.monotonic() - started < 1


async def test_a_request_has_a_longest_time(tmp_path: Path) -> None:
    async with running_world(tmp_path, max_request_seconds=0.3) as world:
        user = await world.user("long")
        world.engine.steps = [tokens(70), 60.0]
        with pytest.raises(Exception, match="longer than this server allows"):
            await user.generate()
        assert world.engine.calls[0].closed
