"""What becomes of adapters that cannot be loaded: told once, then for a while at once."""

import asyncio
import os
from collections.abc import Awaitable
from pathlib import Path

import pytest
from grpc import aio

from inference_service.adapters.artifact import Artifact
from inference_service.adapters.failures import AdapterFailures
from inference_service.engine.client import EngineRefusedError
from lorikeet.rpc.errors import (
    DataLossError,
    FailedPreconditionError,
    LorikeetError,
    PermissionDeniedError,
    UnavailableError,
    from_rpc_error,
)
from protos import inference_pb2 as pb
from tests.inference.artifacts import make_files, make_version
from tests.inference.world import User, World
from tests.registry.support import ADMIN

pytestmark = pytest.mark.asyncio(loop_scope="module")

INVALID = EngineRefusedError("ADAPTER_INVALID", "q_proj has no B")


async def prefetch(user: User, *adapters: str) -> tuple[list[pb.PrefetchProgress], LorikeetError]:
    """All that was told before the call ended with an error."""
    call = user.call("PrefetchAdapters", pb.PrefetchAdaptersRequest(adapters=adapters))
    news: list[pb.PrefetchProgress] = []

    async def read() -> None:
        async for progress in call:
            news.append(progress)  # noqa: PERF401  # what came before the error counts

    return news, await _error_of(read())


async def _error_of(call: Awaitable[object]) -> LorikeetError:
    try:
        await call
    except aio.AioRpcError as error:
        return from_rpc_error(error)
    except LorikeetError as error:
        return error
    raise AssertionError("it did not fail")


async def listed(user: User) -> dict[str, pb.LoadedAdapter]:
    answer = await user("ListLoadedAdapters", pb.ListLoadedAdaptersRequest())
    return {adapter.adapter_version: adapter for adapter in answer.adapters}


def damage_on_disk(world: World, digest: str) -> None:
    """A flipped bit that leaves no trace in the file's size and times."""
    directory = world.data_dir / "adapters" / digest.replace(":", "-")
    path = directory / "adapter_model.safetensors"
    before = path.stat()
    with path.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


async def test_a_prefetch_goes_on_when_some_adapters_fail(world: World) -> None:
    user = await world.user("some-fail")
    sound = [await world.publish("some-fail", f"sound{n}", seed=500 + n) for n in range(2)]
    await world.publish("some-fail", "broken", seed=502)
    await prefetch(user, "absent")  # nothing of this is remembered
    world.engine.load_errors = {
        (await world.publish("some-fail", "broken", seed=503)).digest: INVALID
    }
    news, error = await prefetch(user, "sound0", "broken", "absent", "sound1")
    last = {progress.adapter: progress for progress in news if progress.done}
    assert last.keys() == {"sound0", "broken", "absent", "sound1"}
    assert last["absent"].failure.reason == "PERMISSION_DENIED"
    assert last["broken"].failure.reason == "ADAPTER_INVALID"
    assert last["broken"].failure.retry_time.seconds
    assert last["broken"].tier == pb.TIER_DISK
    for name, version in zip(("sound0", "sound1"), sound, strict=True):
        assert (last[name].tier, last[name].HasField("failure")) == (pb.TIER_DEVICE, False)
        assert version.digest in world.engine.paths
    assert isinstance(error, PermissionDeniedError | FailedPreconditionError)


async def test_what_failed_for_good_fails_at_once_for_a_while(world: World) -> None:
    user, guest = await world.user("fails-at-once"), await world.user("fails-at-once-guest")
    version = await world.publish("fails-at-once", "math", seed=510)
    await world.allow(version.name.rpartition("/versions")[0], "fails-at-once-guest")
    world.engine.load_errors = {version.digest: INVALID}
    answers = [await _error_of(user.generate("math")) for _ in range(3)]
    for error in answers:
        assert isinstance(error, FailedPreconditionError)
        assert (error.reason, error.message) == ("ADAPTER_INVALID", "q_proj has no B")
        assert 0 < (error.retry_after or 0) <= 5
    assert world.engine.num_loads == 1
    assert (await _error_of(guest.generate("fails-at-once/math"))).reason == "ADAPTER_INVALID"
    await prefetch(guest, "fails-at-once/math")  # it is not the guest's to try
    assert world.engine.num_loads == 1
    for teller in (user, guest, await world.user("fails-admin", (ADMIN, "*"))):
        failed = (await listed(teller))[version.name]
        assert (failed.failure.reason, failed.tier) == ("ADAPTER_INVALID", pb.TIER_DISK)
    _, error = await prefetch(user, "math")
    assert (world.engine.num_loads, error.reason) == (2, "ADAPTER_INVALID")
    assert 5 < (error.retry_after or 0) <= 10
    world.engine.load_errors = {}
    await user.stream("PrefetchAdapters", pb.PrefetchAdaptersRequest(adapters=["math"]))
    assert not (await listed(user))[version.name].HasField("failure")
    assert (await user.generate("math")).start.digest == version.digest


async def test_a_new_version_is_not_held_to_what_the_old_one_did(world: World) -> None:
    user = await world.user("new-version")
    broken = await world.publish("new-version", "math", seed=520)
    world.engine.load_errors = {broken.digest: INVALID}
    await _error_of(user.generate("math"))
    mended = await world.publish("new-version", "math", seed=521)
    assert (await user.generate("math")).start.digest == mended.digest


async def test_a_registry_that_is_away_is_not_remembered(world: World) -> None:
    user = await world.user("away")
    version = await world.publish("away", "math", seed=530)
    world.engine.load_errors = {version.digest: EngineRefusedError("ADAPTER_UNKNOWN", "restarted")}
    assert isinstance(await _error_of(user.generate("math")), UnavailableError)
    world.engine.load_errors = {}
    assert (await user.generate("math")).start.digest == version.digest


async def test_a_copy_that_the_engine_finds_damaged_is_fetched_again(world: World) -> None:
    user = await world.user("damaged")
    version = await world.publish("damaged", "math", seed=540)
    await user.generate("math")
    damage_on_disk(world, version.digest)
    world.engine.num_loads = 0
    answer = await user.generate("math")
    assert (answer.start.digest, world.engine.num_loads) == (version.digest, 2)
    await user.generate("math")
    assert world.engine.num_loads == 3
    world.engine.load_errors = {version.digest: EngineRefusedError("ARTIFACT_CORRUPT", "always")}
    error = await _error_of(user.generate("math"))
    assert isinstance(error, DataLossError)
    assert (error.reason, bool(error.retry_after)) == ("ARTIFACT_CORRUPT", True)
    assert world.engine.num_loads == 5


async def test_pauses_grow_up_to_a_bound_and_count_a_try_once() -> None:
    now = [0.0]
    failures = AdapterFailures(lambda: now[0])
    artifact = Artifact.from_version(make_version(make_files()))

    async def fail() -> float:
        with pytest.raises(DataLossError) as error, failures.noted(artifact):
            raise DataLossError("broken", reason="ARTIFACT_CORRUPT")
        assert error.value.retry_after is not None
        return error.value.retry_after

    assert await asyncio.gather(*(fail() for _ in range(50))) == [5.0] * 50
    pauses = []
    for _ in range(9):
        remembered = failures.get(artifact.version_name)
        assert remembered is not None
        now[0] += remembered.retry_after or 0
        failures.check(artifact.version_name)
        pauses.append(await fail())
    assert pauses == [10, 20, 40, 80, 160, 300, 300, 300, 300]
    failures.forget(artifact.version_name)
    assert await fail() == 5.0


async def test_errors_that_pass_are_not_remembered(tmp_path: Path) -> None:
    failures = AdapterFailures()
    artifact = Artifact.from_version(make_version(make_files()))
    with pytest.raises(UnavailableError), failures.noted(artifact):
        raise UnavailableError("away")
    assert failures.get(artifact.version_name) is None
