"""The adapter store: only registered bytes, fetched once, within the budget."""

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from inference_service.adapters.artifact import Artifact
from inference_service.adapters.disk import StoreLockedError
from inference_service.adapters.store import AdapterStore
from lorikeet.rpc.errors import (
    DataLossError,
    FailedPreconditionError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
)
from tests.inference.artifacts import (
    MemoryReader,
    breaks_at,
    damages,
    make_files,
)
from tests.inference.world import eventually

WEIGHTS = "adapter_model.safetensors"


async def open_store(root: Path, reader: MemoryReader, max_bytes: int = 1 << 30) -> AdapterStore:
    store = AdapterStore(root / "adapters", reader, max_bytes=max_bytes)
    await store.open()
    return store


async def read(store: AdapterStore, artifact: Artifact) -> dict[str, bytes]:
    async with store.lease(artifact, "acme") as path:
        return {file.name: file.read_bytes() for file in path.iterdir()}


def left_over(root: Path) -> list[str]:
    return [path.name for path in (root / "adapters").iterdir() if path.name.startswith(".p")]


async def test_twenty_requests_share_one_download(tmp_path: Path) -> None:
    reader, files = MemoryReader(seconds=0.002), make_files()
    artifact = reader.add(files)
    store = await open_store(tmp_path, reader)
    assert await asyncio.gather(*(read(store, artifact) for _ in range(20))) == [files] * 20
    assert reader.num_reads == len(files)
    assert await read(store, artifact) == files
    assert reader.num_reads == len(files)
    assert left_over(tmp_path) == []
    assert (tmp_path / "adapters").stat().st_mode & 0o077 == 0


async def test_a_broken_download_goes_on_where_it_was(tmp_path: Path) -> None:
    reader, files = MemoryReader(breaks_at(4, 6)), make_files()
    store = await open_store(tmp_path, reader)
    assert await read(store, reader.add(files)) == files
    assert [offset for name, offset in reader.offsets if name == WEIGHTS] == [0, 2000, 3000]


async def test_a_registry_that_stays_away_is_unavailable(tmp_path: Path) -> None:
    reader = MemoryReader(breaks_at(*range(3, 100)))
    store = await open_store(tmp_path, reader)
    with pytest.raises(UnavailableError) as error:
        await read(store, reader.add(make_files()))
    assert error.value.retry_after
    assert len(left_over(tmp_path)) == 1, "to be gone on with"


async def test_a_chunk_damaged_on_its_way_is_asked_for_again(tmp_path: Path) -> None:
    reader, files = MemoryReader(damages(3, fix_crc=False)), make_files()
    store = await open_store(tmp_path, reader)
    assert await read(store, reader.add(files)) == files
    assert reader.num_reads == len(files) + 1


async def test_wrong_bytes_are_fetched_once_more_and_then_lost(tmp_path: Path) -> None:
    once, files = MemoryReader(damages(3, fix_crc=True)), make_files()
    store = await open_store(tmp_path / "once", once)
    assert await read(store, once.add(files)) == files
    always = MemoryReader(damages(*range(1000), fix_crc=True))
    store = await open_store(tmp_path / "always", always)
    with pytest.raises(DataLossError) as error:
        await read(store, always.add(files))
    assert error.value.reason == "ARTIFACT_CORRUPT"
    assert always.num_reads == 2
    assert left_over(tmp_path / "always") == []


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "extra", "link"])
async def test_a_damaged_copy_on_disk_is_never_used(
    tmp_path: Path, damage: str, restarted: bool
) -> None:
    reader, files = MemoryReader(), make_files()
    artifact = reader.add(files)
    store = await open_store(tmp_path, reader)
    async with store.lease(artifact, "acme") as path:
        pass
    _damage(path / WEIGHTS, damage)
    if restarted:
        await store.close()
        store = await open_store(tmp_path, reader)
    if damage == "extra" and not restarted:
        return  # nobody reads a file that is not in the manifest; the next start removes it
    assert await read(store, artifact) == files
    assert reader.num_reads == 2 * len(files)


def _damage(file: Path, damage: str) -> None:
    data = file.read_bytes()
    if damage == "flip":
        file.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    elif damage == "truncate":
        os.truncate(file, len(data) - 1)
    elif damage == "remove":
        file.unlink()
    elif damage == "extra":
        (file.parent / "evil.py").write_text("print()")
    else:
        elsewhere = file.parent.parent / ".elsewhere"
        elsewhere.write_bytes(b"x" * len(data))
        file.unlink()
        file.symlink_to(elsewhere)


async def test_a_sound_copy_survives_a_restart_without_the_registry(tmp_path: Path) -> None:
    reader, files = MemoryReader(), make_files()
    artifact = reader.add(files)
    store = await open_store(tmp_path, reader)
    await read(store, artifact)
    with pytest.raises(StoreLockedError):
        await open_store(tmp_path, reader)
    await store.close()
    (tmp_path / "adapters" / ".partial-of-a-crash").mkdir()
    store = await open_store(tmp_path, MemoryReader())
    assert await read(store, artifact) == files
    assert left_over(tmp_path) == []


async def test_the_least_recently_used_idle_adapter_makes_room(tmp_path: Path) -> None:
    reader = MemoryReader()
    artifacts = [
        reader.add(make_files(seed), f"tenants/acme/adapters/a/versions/{seed + 1}")
        for seed in range(4)
    ]
    store = await open_store(tmp_path, reader, max_bytes=3 * artifacts[0].size_bytes)
    async with store.lease(artifacts[0], "acme"):
        for artifact in (artifacts[1], artifacts[2], artifacts[1], artifacts[3]):
            await read(store, artifact)
    assert set(store.sizes()) == {artifacts[index].digest for index in (0, 1, 3)}


async def test_adapters_in_use_are_never_removed(tmp_path: Path) -> None:
    reader = MemoryReader()
    first = reader.add(make_files(1), "tenants/acme/adapters/a/versions/1")
    second = reader.add(make_files(2), "tenants/acme/adapters/a/versions/2")
    store = await open_store(tmp_path, reader, max_bytes=first.size_bytes + 1)
    async with store.lease(first, "acme") as path:
        with pytest.raises(ResourceExhaustedError) as full:
            await read(store, second)
        assert full.value.retry_after
        with pytest.raises(FailedPreconditionError):
            await store.delete(first.digest)
        assert path.exists()
    await read(store, second)
    assert set(store.sizes()) == {second.digest}


async def test_waiting_until_unused(tmp_path: Path) -> None:
    reader = MemoryReader()
    artifact = reader.add(make_files())
    store = await open_store(tmp_path, reader)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(store.lease(artifact, "acme"))
        waiting = asyncio.create_task(store.wait_until_unused(artifact.digest))
        await asyncio.sleep(0.01)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 1)
    await store.delete(artifact.digest)
    assert store.sizes() == {}
    assert [path.name for path in (tmp_path / "adapters").iterdir()] == [".lock"]


async def test_progress_reaches_everyone_who_asked(tmp_path: Path) -> None:
    reader = MemoryReader(seconds=0.001)
    artifact = reader.add(make_files())
    store = await open_store(tmp_path, reader)
    seen: list[list[int]] = [[], []]

    async def follow(index: int) -> None:
        async with store.lease(artifact, "acme", lambda done, _: seen[index].append(done)):
            pass

    await asyncio.gather(follow(0), follow(1))
    for done in seen:
        assert done == sorted(done)
        assert done[-1] == artifact.size_bytes
        assert len(done) > 3


async def test_a_revoked_tenant_does_not_take_others_down(tmp_path: Path) -> None:
    """Two tenants wait for one download; it was begun for the one that loses its access."""

    class Revoking(MemoryReader):
        async def read_artifact(self, *args, tenant, **kwargs):  # type: ignore[no-untyped-def]
            async for chunk in super().read_artifact(*args, tenant=tenant, **kwargs):
                if tenant == "revoked":
                    raise PermissionDeniedError("revoked")
                yield chunk

    reader, files = Revoking(seconds=0.005), make_files()
    artifact = reader.add(files)
    store = await open_store(tmp_path, reader)

    async def use(tenant: str) -> None:
        async with store.lease(artifact, tenant):
            pass

    revoked, allowed = await asyncio.gather(use("revoked"), use("allowed"), return_exceptions=True)
    assert isinstance(revoked, PermissionDeniedError)
    assert allowed is None


async def test_a_download_goes_on_when_the_request_that_began_it_is_cancelled(
    tmp_path: Path,
) -> None:
    reader, files = MemoryReader(seconds=0.005), make_files()
    artifact = reader.add(files)
    store = await open_store(tmp_path, reader)
    first = asyncio.create_task(read(store, artifact))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(read(store, artifact))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == files
    assert reader.num_reads == len(files)
    assert store.num_leases(artifact.digest) == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, where this user may mount one."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no right to mount a file system")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


async def test_a_full_disk_ends_in_an_error_and_leaves_nothing(small_disk: Path) -> None:
    reader = MemoryReader()
    large = reader.add(make_files(1, size=100_000), "tenants/acme/adapters/large/versions/1")
    small = make_files(2)
    store = await open_store(small_disk, reader)
    for _ in range(2):
        with pytest.raises(ResourceExhaustedError) as full:
            await read(store, large)
        assert full.value.reason == "ADAPTER_DISK_FULL"
        assert full.value.retry_after
        assert left_over(small_disk) == []
    assert await read(store, reader.add(small, "tenants/acme/adapters/small/versions/1")) == small
    await store.close()


async def interrupted(root: Path, files: dict[str, bytes]) -> Artifact:
    """A download that a registry which went away left unfinished, in a process that has ended."""
    reader = MemoryReader(breaks_at(*range(5, 100)))
    artifact = reader.add(files)
    store = await open_store(root, reader)
    with pytest.raises(UnavailableError):
        await read(store, artifact)
    await store.close()
    return artifact


async def test_a_download_goes_on_after_a_restart(tmp_path: Path) -> None:
    files = make_files()
    artifact = await interrupted(tmp_path, files)
    reader = MemoryReader()
    reader.add(files)
    store = await open_store(tmp_path, reader)
    seen: list[int] = []
    async with store.lease(artifact, "acme", lambda done, _: seen.append(done)):
        pass
    assert await read(store, artifact) == files
    assert reader.offsets == [(WEIGHTS, 3000)], "what was there is not read again"
    assert seen == sorted(seen)
    assert left_over(tmp_path) == []
    await store.close()


async def test_a_download_goes_on_after_its_process_was_killed(tmp_path: Path) -> None:
    """Closing a store in the middle leaves what a killed process does: files, and no more."""
    reader, files = MemoryReader(seconds=0.005), make_files(size=50_000)
    artifact = reader.add(files)
    store = await open_store(tmp_path, reader)
    reading = asyncio.create_task(read(store, artifact))
    await eventually(lambda: reader.num_chunks >= 10, 5)
    await store.close()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    again = MemoryReader()
    again.add(files)
    store = await open_store(tmp_path, again)
    assert await read(store, artifact) == files
    ((name, offset),) = again.offsets
    assert (name, offset > 0) == (WEIGHTS, True)
    await store.close()


@pytest.mark.parametrize("damage", ["flip", "extend", "link", "directory", "extra"])
async def test_a_damaged_beginning_is_begun_anew(tmp_path: Path, damage: str) -> None:
    files = make_files()
    artifact = await interrupted(tmp_path, files)
    (partial,) = (tmp_path / "adapters").glob(".partial-*")
    weights = partial / WEIGHTS
    if damage == "flip":
        weights.write_bytes(b"x" + weights.read_bytes()[1:])
    elif damage == "extend":
        weights.write_bytes(b"x" * 100_000)
    elif damage == "extra":
        (partial / "evil.py").write_text("print()")
    else:
        weights.unlink()
        weights.mkdir() if damage == "directory" else weights.symlink_to("/etc/passwd")
    reader = MemoryReader()
    reader.add(files)
    store = await open_store(tmp_path, reader)
    assert await read(store, artifact) == files
    assert left_over(tmp_path) == []
    await store.close()


async def test_beginnings_count_and_are_given_up_first(tmp_path: Path) -> None:
    files = make_files(1)
    begun = await interrupted(tmp_path, files)
    reader = MemoryReader()
    others = [
        reader.add(make_files(seed), f"tenants/acme/adapters/a/versions/{seed}")
        for seed in range(2, 4)
    ]
    store = await open_store(tmp_path, reader, max_bytes=2 * begun.size_bytes + 1)
    await read(store, others[0])
    assert len(left_over(tmp_path)) == 1, "there is room beside it"
    await read(store, others[1])
    assert left_over(tmp_path) == []
    assert set(store.sizes()) == {other.digest for other in others}
    await store.close()


async def test_beginnings_that_nobody_went_on_with_are_collected(tmp_path: Path) -> None:
    await interrupted(tmp_path, make_files())
    (partial,) = (tmp_path / "adapters").glob(".partial-*")
    long_ago = time.time() - 25 * 3600
    for path in (*partial.iterdir(), partial):
        os.utime(path, (long_ago, long_ago))
    store = await open_store(tmp_path, MemoryReader())
    assert left_over(tmp_path) == []
    await store.close()
