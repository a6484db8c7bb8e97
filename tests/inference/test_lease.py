"""While the registry is away: what is known serves until the lease is over, and nothing else."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpc import aio

from inference_service.service import InferenceService
from lorikeet.rpc.errors import LorikeetError, UnauthenticatedError, UnavailableError
from protos import registry_pb2 as reg
from registry_service.config import load_settings
from registry_service.service import RegistryService
from tests.inference.relay import Relay, running_relay
from tests.inference.scripted_engine import ScriptedEngine, steps_of
from tests.inference.test_revocations import ENDLESS, delete_keys, end_of, streaming
from tests.inference.world import (
    User,
    World,
    running_registry,
    running_world,
    settings_for,
    until,
)
from tests.registry.support import USE, Client, grants, make_key, make_tenant


async def refusal(user: User, adapter: str = "") -> LorikeetError | None:
    try:
        await user.generate(adapter)
    except LorikeetError as error:
        return error
    return None


async def test_what_is_known_serves_until_the_lease_is_over(tmp_path: Path) -> None:
    async with running_world(tmp_path, registry_lease_seconds=4.0) as world:
        user, stranger = await world.user("known"), await world.user("unknown")
        await world.publish("known", "math")
        await user.generate("math")
        await user.generate()
        world.engine.scripts = [*[[]] * len(world.engine.calls), list(ENDLESS)]
        call = await streaming(user, "math")
        stopped = time.monotonic()
        await world.stop_registry()
        await user.generate("math")
        await user.generate()
        for who, adapter in ((stranger, ""), (user, "math@1"), (user, "nonsense")):
            missed = await refusal(who, adapter)
            assert isinstance(missed, UnavailableError)
            assert (missed.reason, bool(missed.retry_after)) == ("REGISTRY_UNAVAILABLE", True)
            assert world.registry_address not in missed.message
        ended = await end_of(call)
        assert isinstance(ended, UnavailableError)
        assert ended.reason == "REGISTRY_UNAVAILABLE"
        assert time.monotonic() - stopped > 2.0
        num_calls = len(world.engine.calls)
        for adapter in ("", "math"):
            closed = await refusal(user, adapter)
            assert isinstance(closed, UnavailableError)
            assert closed.reason == "REGISTRY_UNAVAILABLE"
        assert len(world.engine.calls) == num_calls


@asynccontextmanager
async def registry_again(root: Path, address: str) -> AsyncIterator[None]:
    """The registry that was stopped, at its old address."""
    data_dir = root / "registry"
    registry = RegistryService(load_settings(["--listen", address, "--data-dir", str(data_dir)]))
    assert await registry.start() == address
    try:
        yield
    finally:
        await registry.stop()


async def test_a_registry_that_is_back_is_followed_again(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        user = await world.user("waits")
        world.engine.steps = list(ENDLESS)
        call = await streaming(user)
        await world.stop_registry()
        async with registry_again(tmp_path, world.registry_address):
            await until(lambda: _is_admitted(world), True)
            await delete_keys(world, "waits")
            assert (await end_of(call)).reason == "ACCESS_REVOKED"
            refused = await refusal(user)
            assert isinstance(refused, UnauthenticatedError)


async def _is_admitted(world: World) -> bool:
    """Whether someone who is not known yet gets in."""
    key = await world.key("waits", name=f"user{time.monotonic_ns()}")
    world.engine.scripts = [*[list(ENDLESS)] * len(world.engine.calls), steps_of([70])]
    return await refusal(User(world.channel, key)) is None


async def test_users_do_not_pay_for_this_services_own_credential(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        known, unknown = await world.user("innocent"), await world.user("innocent", name="other")
        await known.generate()
        key = json.loads((tmp_path / "registry" / "credentials.json").read_text())["inference"]
        name = f"tenants/platform/apiKeys/{key.split('_')[1]}"
        await world.admin("DeleteApiKey", reg.DeleteApiKeyRequest(name=name))

        async def is_unavailable() -> bool:
            return isinstance(await refusal(unknown), UnavailableError)

        await until(is_unavailable, True)
        wrong = await refusal(User(world.channel, "lk_0_0"))
        assert isinstance(wrong, UnavailableError), "nobody can tell whose fault it is"
        assert await refusal(known) is None, "known, and there is a lease"


@dataclass
class Relayed:
    """A front end that reaches its registry through a relay, and a stream that runs on it."""

    relay: Relay
    admin: Client
    engine: ScriptedEngine
    call: Any

    async def delete_key(self) -> None:
        request = reg.ListApiKeysRequest(parent="tenants/acme")
        (key,) = (await self.admin("ListApiKeys", request)).api_keys
        await self.admin("DeleteApiKey", reg.DeleteApiKeyRequest(name=key.name))


@asynccontextmanager
async def relayed(root: Path) -> AsyncIterator[Relayed]:
    async with AsyncExitStack() as stack:
        _, target, admin = await stack.enter_async_context(running_registry(root))
        relay, address = await stack.enter_async_context(running_relay(target))
        engine = ScriptedEngine()
        service = InferenceService(settings_for(root, address), engine.attach)
        channel = aio.insecure_channel(await service.start())
        stack.push_async_callback(service.stop)
        await stack.enter_async_context(channel)
        await make_tenant(admin, "acme")
        key = await make_key(admin, "acme", "user", grants((USE, "tenants/acme")))
        engine.steps = list(ENDLESS)
        yield Relayed(relay, admin, engine, await streaming(User(channel, key)))


async def test_a_revocation_behind_a_dead_connection_is_heard_of_in_time(tmp_path: Path) -> None:
    async with relayed(tmp_path) as world:
        world.relay.silence()  # no end of the connection is told: it must be found out
        await world.delete_key()
        assert (await end_of(world.call)).reason == "ACCESS_REVOKED"


async def test_a_revocation_during_a_break_is_heard_of_after_it(tmp_path: Path) -> None:
    async with relayed(tmp_path) as world:
        world.relay.cut()
        await world.delete_key()
        assert not world.engine.calls[0].closed, "there is a lease"
        world.relay.mend()
        assert (await end_of(world.call)).reason == "ACCESS_REVOKED"
