"""What the doctor finds of a running inference service, whose engine alone is scripted."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from inference_service.engine.client import EngineRefusedError
from lorikeet.doctor.inference import check_inference
from lorikeet.doctor.services import Target, check_registry
from lorikeet.rpc.checklist import Checklist
from lorikeet.rpc.errors import LorikeetError
from protos import inference_pb2, registry_pb2
from tests.doctor.conftest import finding, statuses
from tests.inference.scripted_engine import INFO
from tests.inference.world import World, running_world
from tests.registry.support import ADMIN

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running_world(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin(world: World) -> str:
    return await world.key("acme", (ADMIN, "*"), name="admin")


async def examined(world: World, key: str) -> Checklist:
    registry = Target(world.registry_address, key)
    inference = Target(world.address, key)

    def examine() -> Checklist:
        checklist = Checklist()
        check_registry(checklist, registry)
        check_inference(checklist, inference, registry)
        return checklist

    return await asyncio.to_thread(examine)


async def test_all_that_can_be_well(world: World, admin: str) -> None:
    await world.publish("acme", "math")
    checklist = await examined(world, admin)
    found = statuses(checklist)
    # The scripted engine's ten pages are of 16 bytes.
    assert {check for check, status in found.items() if status == "failed"} == {"inference.room"}
    assert "needs 128 pages, there are 10" in finding(checklist, "inference.room").detail
    assert "--memory" in finding(checklist, "inference.room").advice
    for check in ("credential", "device", "admission", "lease", "base_model", "rank", "adapters"):
        assert found[f"inference.{check}"] == "ok", check
    assert "1 of 1 adapters of acme" in finding(checklist, "inference.rank").detail


async def test_a_key_that_is_not_valid(world: World) -> None:
    checklist = await examined(world, "lk_wrong")
    assert finding(checklist, "inference.credential").status == "failed"
    assert finding(checklist, "inference.device").detail == "needs inference.credential"
    assert "lk_wrong" not in str(checklist.findings)


async def test_an_adapter_that_failed_is_named_with_its_reason(world: World, admin: str) -> None:
    await world.publish("acme", "broken", seed=5)
    world.engine.load_error = EngineRefusedError("ADAPTER_INVALID", "a tensor is not finite")
    user = await world.user("acme", name="reader")
    with pytest.raises(LorikeetError):
        await user.generate("broken")
    found = finding(await examined(world, admin), "inference.adapters")
    world.engine.load_error = None
    assert found.status == "failed"
    assert "acme/adapters/broken/versions/1: ADAPTER_INVALID" in found.detail


async def test_a_warm_adapter_that_cannot_be_loaded(world: World, admin: str) -> None:
    await world.publish("acme", "hot", seed=6)
    world.engine.load_error = EngineRefusedError("ADAPTER_INVALID", "a tensor is not finite")
    warm = registry_pb2.Adapter(name="tenants/acme/adapters/hot", warm_aliases=["latest"])
    await world.admin("UpdateAdapter", registry_pb2.UpdateAdapterRequest(adapter=warm))
    async with asyncio.timeout(20):
        while True:
            checklist = await examined(world, admin)
            if finding(checklist, "inference.warm").status == "failed":
                break
    assert finding(checklist, "inference.warm").detail.startswith("0 of 1 adapters")
    found = finding(await examined(world, admin), "inference.adapters")
    world.engine.load_error = None
    assert "acme/adapters/hot/versions/1: ADAPTER_INVALID" in found.detail


async def test_ranks_that_the_server_does_not_take(world: World, admin: str) -> None:
    await world.publish("acme", "large")
    world.engine.info = msgspec.structs.replace(INFO, max_lora_rank=1)
    found = finding(await examined(world, admin), "inference.rank")
    world.engine.info = INFO
    assert found.status == "failed"
    assert "acme/adapters/large/versions/1 (2)" in found.detail
    assert "--max-lora-rank" in found.advice


async def test_a_server_that_drains(world: World, admin: str) -> None:
    caller = await world.user("acme", (ADMIN, "*"), name="drainer")
    await caller("Drain", inference_pb2.DrainRequest())
    checklist = await examined(world, admin)
    assert finding(checklist, "inference.health").detail == "NOT_SERVING"
    assert "SHUTTING_DOWN" in finding(checklist, "inference.admission").detail
