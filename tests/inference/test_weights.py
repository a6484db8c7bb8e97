"""What a tenant's weight is worth, seen from outside: a real engine, busy with two tenants."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from grpc import aio

from inference_service.engine.in_process import InProcessEngineClient
from inference_service.service import InferenceService
from protos import inference_pb2 as pb
from protos import registry_pb2
from tests.inference.world import User, running_registry, settings_for
from tests.lorikeet.checkpoint import write_checkpoint
from tests.registry.support import USE, Client, grants, make_base_model, make_key

NUM_EACH = 80
PROMPT = pb.TokenIds(ids=range(10, 18))


@asynccontextmanager
async def running_service(root: Path) -> AsyncIterator[tuple[aio.Channel, Client]]:
    """A service with room for four sequences, and the registry's administrator."""
    model = write_checkpoint(root / "small")
    async with running_registry(root) as (_, registry_address, admin):
        config_json = (model / "config.json").read_text()
        await make_base_model(admin, "small", source="example/small", config_json=config_json)
        settings = settings_for(
            root, registry_address, model=model, base_model="small", max_num_seqs=4, num_threads=1
        )
        service = InferenceService(settings, InProcessEngineClient)
        async with aio.insecure_channel(await service.start()) as channel:
            yield channel, admin
        await service.stop()


async def make_user(channel: aio.Channel, admin: Client, tenant: str, weight: float) -> User:
    request = registry_pb2.CreateTenantRequest(
        tenant_id=tenant,
        tenant=registry_pb2.Tenant(serving=registry_pb2.ServingLimits(weight=weight)),
    )
    await admin("CreateTenant", request)
    return User(channel, await make_key(admin, tenant, "user", grants((USE, f"tenants/{tenant}"))))


async def test_a_busy_engine_is_shared_by_weight(tmp_path: Path) -> None:
    async with running_service(tmp_path) as (channel, admin):
        heavy = await make_user(channel, admin, "heavy", weight=3)
        light = await make_user(channel, admin, "light", weight=1)
        ended: list[User] = []

        async def ask(user: User) -> None:
            sampling = pb.SamplingParams(max_tokens=32, ignore_eos=True)
            request = pb.GenerateRequest(prompt_token_ids=PROMPT, sampling=sampling)
            async for _ in user.call("Generate", request, timeout=120):
                pass
            ended.append(user)

        await asyncio.gather(*(ask(user) for _ in range(NUM_EACH) for user in (light, heavy)))
    # All ask for the same number of tokens, so requests count them. While both wait, of each four
    # three are the heavy tenant's; a few began before there was a queue.
    share = ended[:NUM_EACH].count(heavy)
    assert abs(share - NUM_EACH * 3 / 4) <= 6, f"{share} of the first {NUM_EACH}"
