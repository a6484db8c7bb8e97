"""The services as processes, with the real engine: from the command line to SIGTERM."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lorikeet.rpc.errors import LorikeetError, UnavailableError
from protos import inference_pb2 as pb
from tests.checkpoints import write_adapter, write_checkpoint
from tests.inference.tokenizer_files import write_model
from tests.inference.world import BASE_MODEL, User
from tests.registry.support import (
    USE,
    Client,
    grants,
    make_base_model,
    make_key,
    make_registered,
    make_tenant,
    publish,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Service:
    """A running process and where it listens."""

    process: asyncio.subprocess.Process
    address: str

    async def stop(self) -> float:
        """SIGTERM; returns how many seconds it took."""
        started = time.monotonic()
        if self.process.returncode is None:
            self.process.terminate()
            await asyncio.wait_for(self.process.wait(), 15)
        return time.monotonic() - started


async def launch(module: str, root: Path, *arguments: str) -> Service:
    ready = root / f"{module}.ready"
    ready.unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, "--listen", "127.0.0.1:0", "--ready-file", str(ready)),
        *arguments,
    )
    async with asyncio.timeout(60):
        while not ready.exists():
            assert process.returncode is None, f"{module} ended"
            await asyncio.sleep(0.05)
    return Service(process, json.loads(ready.read_text())["address"])


@dataclass
class Both:
    """A registry and an inference service with one tenant and one adapter."""

    registry: Service
    inference: Service
    root: Path
    user: User


async def fill(registry: Service, root: Path) -> str:
    """Registers the model, a tenant and an adapter; returns the tenant's key."""
    credentials = json.loads((root / "registry" / "credentials.json").read_text())
    async with aio.insecure_channel(registry.address) as channel:
        admin = Client(channel, credentials["admin"])
        source = str(root / "model")
        config_json = (root / "model" / "config.json").read_text()
        await make_base_model(admin, config_json=config_json, source=source)
        await make_tenant(admin, "acme")
        adapter = write_adapter(root / "adapter", root / "model", rank=4)
        name = await make_registered(admin, "acme", "math")
        files = ("adapter_config.json", "adapter_model.safetensors")
        await publish(admin, name, {file: (adapter / file).read_bytes() for file in files})
        return await make_key(admin, "acme", "user", grants((USE, "tenants/acme")))


async def launch_inference(root: Path, registry: Service, **options: str) -> Service:
    values = {
        "model": str(root / "model"),
        "base-model": BASE_MODEL,
        "registry": registry.address,
        "credentials": str(root / "registry" / "credentials.json"),
        "data-dir": str(root / "inference"),
        "device": "cpu",
        "dtype": "float32",
        "memory": "16MiB",
        "num-threads": "1",
        **options,
    }
    return await launch(
        "inference_service",
        root,
        *(part for key, value in values.items() for part in (f"--{key}", value)),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Both]:
    root = tmp_path_factory.mktemp("processes")
    write_model(root / "model")
    write_checkpoint(root / "model", vocab_size=600)
    registry = await launch("registry_service", root, "--data-dir", str(root / "registry"))
    key = await fill(registry, root)
    inference = await launch_inference(root, registry)
    async with aio.insecure_channel(inference.address) as channel:
        yield Both(registry, inference, root, User(channel, key))
    await inference.stop()
    await registry.stop()


def engines_of(process_id: int) -> list[psutil.Process]:
    """Engines that were started by a process which may have gone: they are told its id."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if "inference_service.engine" in (process.info["cmdline"] or [])
        and str(process_id) in process.info["cmdline"]
    ]


def greedy(**fields: Any) -> pb.GenerateRequest:
    sampling = pb.SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
    return pb.GenerateRequest(prompt="hello to the world", sampling=sampling, **fields)


async def test_base_and_adapter_answer_differently_and_again_the_same(both: Both) -> None:
    base = await both.user.ask(greedy())
    adapted = await both.user.ask(greedy(adapter="math"))
    together = await asyncio.gather(
        both.user.ask(greedy()), both.user.ask(greedy(adapter="math@1"))
    )
    assert adapted.start.adapter_version == "tenants/acme/adapters/math/versions/1"
    assert base.token_ids != adapted.token_ids
    assert [answer.token_ids for answer in together] == [base.token_ids, adapted.token_ids]
    assert base.complete is not None
    assert base.complete.finish_reason == pb.FINISH_REASON_LENGTH
    assert len(base.token_ids) == 12
    info = await both.user("GetServerInfo", pb.GetServerInfoRequest())
    assert info.memory.adapter_pages > 0


async def test_a_silent_registry_is_unavailable_in_time(both: Both) -> None:
    both.registry.process.send_signal(signal.SIGSTOP)
    try:
        await both.user.ask(greedy(adapter="math"))  # known, and there is a lease
        started = time.monotonic()
        with pytest.raises(UnavailableError) as error:
            await both.user.ask(greedy(adapter="unknown"))
        assert error.value.reason == "REGISTRY_UNAVAILABLE"
        assert time.monotonic() - started < 5
    finally:
        both.registry.process.send_signal(signal.SIGCONT)
    await both.user.ask(greedy(adapter="math"))


async def test_an_engine_that_is_killed_ends_its_streams_and_comes_back(both: Both) -> None:
    (engine,) = psutil.Process(both.inference.process.pid).children()
    sampling = pb.SamplingParams(temperature=0, ignore_eos=True)
    endless = [pb.GenerateRequest(prompt="hello", sampling=sampling) for _ in range(4)]
    running = [asyncio.create_task(both.user.ask(request)) for request in endless]
    await asyncio.sleep(0.05)
    started = time.monotonic()
    os.kill(engine.pid, signal.SIGKILL)
    ended = await asyncio.gather(*running, return_exceptions=True)
    assert all(getattr(end, "reason", "") in ("ENGINE_RESTARTING", "") for end in ended)
    assert time.monotonic() - started < 5
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(UnavailableError):
                await both.user.ask(greedy(adapter="math"))
                break
            await asyncio.sleep(0.1)


async def test_sigterm_ends_it_soon_and_its_engine_with_it(both: Both) -> None:
    second = await launch_inference(
        both.root, both.registry, **{"data-dir": str(both.root / "second")}
    )
    (engine,) = psutil.Process(second.process.pid).children()
    assert await second.stop() < 3
    assert second.process.returncode == 0
    assert not engine.is_running()


async def test_an_engine_ends_when_its_front_end_is_killed(both: Both) -> None:
    second = await launch_inference(
        both.root, both.registry, **{"data-dir": str(both.root / "killed")}
    )
    (engine,) = psutil.Process(second.process.pid).children()
    second.process.kill()
    await second.process.wait()
    await asyncio.to_thread(engine.wait, 10)


async def test_a_second_signal_does_not_wait_for_streams(both: Both) -> None:
    values = {"shutdown-delay-seconds": "60", "data-dir": str(both.root / "impatient")}
    second = await launch_inference(both.root, both.registry, **values)
    second.process.terminate()
    async with aio.insecure_channel(second.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        while (await watch.read()).status != health_pb2.HealthCheckResponse.NOT_SERVING:
            pass
        second.process.terminate()
        assert await asyncio.wait_for(second.process.wait(), 15) == 0


async def test_a_wrong_model_is_one_clear_line(both: Both) -> None:
    log = both.root / "third.log"
    with log.open("w") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "inference_service", "--model", str(both.root / "model")),
            *("--base-model", "other", "--registry", both.registry.address),
            *("--credentials", str(both.root / "registry" / "credentials.json")),
            *("--data-dir", str(both.root / "third")),
            stderr=errors,
        )
    assert await asyncio.wait_for(process.wait(), 20) == 1
    assert log.read_text().strip().splitlines()[-1].startswith("error: base model 'other'")
    assert not engines_of(process.pid)


async def test_a_killed_registry_is_unavailable_in_time(both: Both) -> None:
    both.registry.process.kill()
    await both.registry.process.wait()
    await both.user.ask(greedy(adapter="math"))  # known, and there is a lease
    started = time.monotonic()
    for adapter in ("unknown", "math@7"):
        with pytest.raises(LorikeetError) as error:
            await both.user.ask(greedy(adapter=adapter))
        assert error.value.reason == "REGISTRY_UNAVAILABLE"
    assert time.monotonic() - started < 5
