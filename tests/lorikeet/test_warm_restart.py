"""The real services: what is warm, and what was in use, is loaded again without being asked for."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lorikeet.client import Client
from lorikeet.local import LocalStack
from lorikeet.rpc.errors import LorikeetError
from protos import inference_pb2 as pb
from tests.checkpoints import write_adapter
from tests.lorikeet.checkpoint import write_checkpoint

SECONDS = 60.0
SMALL, LARGE = "tenants/acme/adapters/small/versions/1", "tenants/acme/adapters/large/versions/1"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    model = write_checkpoint(tmp_path / "model")
    arguments = ["--device=cpu", "--dtype=float32", "--memory=32MiB", "--max-model-len=512"]
    with LocalStack(
        model, "tiny", known_as=[str(model)], data_dir=tmp_path / "data", inference_args=arguments
    ) as stack:
        with stack.admin() as admin:
            admin.ensure_tenant("acme")
            for name, rank in (("small", 4), ("large", 16)):
                path = write_adapter(tmp_path / name, model, rank=rank, seed=rank)
                admin.create_adapter(f"acme/{name}", "tiny")
                admin.push(path, f"acme/{name}")
            admin.update_adapter("acme/small", warm_aliases=["latest"])
        yield stack


def until(condition: Callable[[], bool]) -> None:
    """Services that restart meanwhile are no failure."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            if condition():
                return
        except LorikeetError:
            pass
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def is_loaded(client: Client, *names: str) -> bool:
    tiers = {adapter.adapter_version: adapter.tier for adapter in client.loaded()}
    return all(tiers.get(name) == pb.TIER_DEVICE for name in names)


def is_serving(stack: LocalStack) -> bool:
    with grpc.insecure_channel(stack.inference_address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=5
        )
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def engine_of(stack: LocalStack) -> psutil.Process:
    assert stack.inference is not None
    children = psutil.Process(stack.inference.pid).children(recursive=True)
    (engine,) = [child for child in children if "inference_service.engine" in child.cmdline()]
    return engine


@pytest.mark.timeout(300)
def test_a_replica_is_warm_again_by_itself(stack: LocalStack) -> None:
    with stack.admin() as admin:
        key = admin.ensure_tenant("acme")
    with stack.client(key) as client:
        until(lambda: is_loaded(client, SMALL))
        (shown,) = client.loaded()
        assert (shown.warm, shown.pinned) == (True, False)
        answers = [
            client.generate("the quick", name, max_tokens=8, temperature=0.0).token_ids
            for name in ("small", "large")
        ]
        engine_of(stack).kill()
        until(lambda: is_loaded(client, SMALL, LARGE) and is_serving(stack))
    assert stack.inference is not None
    stack.inference.stop(10)
    stack.start_inference()
    with stack.client(key) as client:
        until(lambda: is_loaded(client, SMALL, LARGE) and is_serving(stack))
        for name, expected in zip(("small", "large"), answers, strict=True):
            again = client.generate("the quick", name, max_tokens=8, temperature=0.0)
            assert again.token_ids == expected
    psutil.Process(stack.inference.pid).send_signal(signal.SIGKILL)
    stack.inference.stop(0)
    stack.start_inference()
    with stack.client(key) as client:
        until(lambda: is_loaded(client, SMALL) and is_serving(stack))
