"""Garbage goes, and nothing else: also when commits and several collectors meet."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from lorikeet.rpc.errors import UnavailableError
from protos import registry_pb2 as pb
from registry_service.models import BlobRow, UploadRow, VersionRow
from registry_service.repository import blobs
from tests.registry.conftest import World
from tests.registry.support import (
    WEIGHTS,
    chunks,
    declared,
    make_adapter,
    make_registered,
    publish,
    read_file,
    start_and_write,
)

FILES = make_adapter().files()
LONG_AGO = datetime.now(UTC) - timedelta(days=60)


@pytest.fixture
async def adapter(world: World) -> str:
    return await make_registered(world.publisher, "acme", "bot")


def keys(world: World, prefix: str) -> list[str]:
    with world.registry.store() as store:
        return [entry.key for entry in store.entries(prefix)]


def age_blobs(world: World, state: str | None = None) -> None:
    changes = {"touch_time": LONG_AGO, **({"state": state} if state else {})}
    with world.registry.database() as session:
        session.execute(update(BlobRow).values(changes))


def purge_versions(world: World) -> None:
    with world.registry.database() as session:
        session.execute(update(VersionRow).values(delete_time=LONG_AGO, purge_time=LONG_AGO))


def states(world: World) -> list[str]:
    with world.registry.database() as session:
        return list(session.scalars(select(BlobRow.state)))


async def test_bytes_go_with_the_last_version_that_needs_them(world: World, adapter: str) -> None:
    await publish(world.publisher, adapter, FILES)
    age_blobs(world)
    await world.registry.service.sweep()
    assert states(world) == ["stored"]
    purge_versions(world)
    await world.registry.service.sweep()
    assert (states(world), keys(world, "tenants/")) == ([], [])
    version = await publish(world.publisher, adapter, FILES)
    assert await read_file(world.acme, version.name, WEIGHTS) == FILES[WEIGHTS]


async def test_young_garbage_stays(world: World, adapter: str) -> None:
    await publish(world.publisher, adapter, FILES)
    purge_versions(world)
    await world.registry.service.sweep()
    assert states(world) == ["stored"]
    assert len(keys(world, "tenants/")) == 2


async def test_the_grace_begins_when_bytes_are_given_up(world: World, adapter: str) -> None:
    version = await publish(world.publisher, adapter, FILES)
    for method, request in (
        ("DeleteAdapterVersion", pb.DeleteAdapterVersionRequest(name=version.name)),
        ("PurgeAdapterVersion", pb.PurgeAdapterVersionRequest(name=version.name)),
        ("DeleteAdapter", pb.DeleteAdapterRequest(name=adapter)),
        ("PurgeAdapter", pb.PurgeAdapterRequest(name=adapter)),
    ):
        if method == "DeleteAdapter":
            await publish(world.publisher, adapter, FILES)
        age_blobs(world)
        await world.publisher(method, request)
        if method.startswith("Purge"):
            await world.registry.service.sweep()
            assert states(world) == ["stored"], f"{method}: somebody may still want it back"
    age_blobs(world)
    await world.registry.service.sweep()
    assert states(world) == []


async def test_a_commit_that_died_leaves_nothing_for_long(world: World, adapter: str) -> None:
    await publish(world.publisher, adapter, FILES)
    purge_versions(world)
    age_blobs(world, "storing")
    await world.registry.service.sweep()
    assert (states(world), keys(world, "tenants/")) == ([], [])


async def test_a_commit_waits_for_the_collector(world: World, adapter: str) -> None:
    await publish(world.publisher, adapter, FILES)
    purge_versions(world)
    with world.registry.database() as session:
        session.execute(update(BlobRow).values(state="deleting", touch_time=datetime.now(UTC)))
    committing = asyncio.create_task(publish(world.publisher, adapter, FILES))
    await asyncio.sleep(0.5)
    assert not committing.done()
    with world.registry.database() as session:
        session.execute(update(BlobRow).values(touch_time=LONG_AGO))
    await world.registry.service.sweep()  # takes over from a collector that stopped
    version = await committing
    assert await read_file(world.acme, version.name, WEIGHTS) == FILES[WEIGHTS]
    assert states(world) == ["stored"]


async def test_a_commit_does_not_wait_forever(world: World, adapter: str) -> None:
    await publish(world.publisher, adapter, FILES)
    with world.registry.database() as session:
        session.execute(update(BlobRow).values(state="deleting", touch_time=datetime.now(UTC)))
    upload = await start_and_write(world.publisher, adapter, FILES)
    with pytest.raises(UnavailableError) as refused:
        await world.publisher("CommitUpload", pb.CommitUploadRequest(name=upload))
    assert refused.value.retry_after is not None
    with world.registry.database() as session:
        session.execute(update(BlobRow).values(state="stored"))
    committed = await world.publisher("CommitUpload", pb.CommitUploadRequest(name=upload))
    assert committed.version == 2, "the upload outlived the refusal"


async def test_of_two_collectors_one_has_the_claim(world: World, adapter: str) -> None:
    await publish(world.publisher, adapter, FILES)
    now, claims = datetime.now(UTC), []
    purge_versions(world)
    for claimed in (now, now + timedelta(seconds=1)):
        with world.registry.database() as session:
            path = session.scalars(select(BlobRow.storage_path)).one()
            claims.append(
                blobs.claim(
                    session,
                    path,
                    before=now + timedelta(hours=1),
                    claimed_before=now - timedelta(minutes=15),
                    now=claimed,
                )
            )
    assert claims == [True, False]
    with world.registry.database() as session:
        blobs.forget(session, path, claimed=now + timedelta(seconds=1))  # the one without a claim
        assert session.get(BlobRow, path) is not None
        blobs.forget(session, path, claimed=now)
    assert states(world) == []


async def test_commits_and_collectors_at_once_lose_no_bytes(world: World, adapter: str) -> None:
    """The same bytes are published and purged over and over while collectors run."""
    for _ in range(4):
        publishing = [publish(world.publisher, adapter, FILES) for _ in range(3)]
        sweeping = [world.registry.service.sweep() for _ in range(3)]
        results = await asyncio.gather(*publishing, *sweeping, return_exceptions=True)
        versions = [result for result in results if isinstance(result, pb.AdapterVersion)]
        errors = [result for result in results if isinstance(result, Exception)]
        assert all(isinstance(error, UnavailableError) for error in errors), errors
        for version in versions:
            assert await read_file(world.acme, version.name, WEIGHTS) == FILES[WEIGHTS]
        purge_versions(world)
        age_blobs(world)


async def test_expired_uploads_go_with_their_pieces(world: World, adapter: str) -> None:
    for index in range(3):
        request = pb.StartUploadRequest(adapter=adapter, files=declared(FILES))
        upload = await world.publisher("StartUpload", request)
        await world.publisher("WriteArtifact", iter(list(chunks(upload.name, FILES))[: index + 1]))
    with world.registry.database() as session:
        session.execute(update(UploadRow).values(expire_time=LONG_AGO))
    await asyncio.gather(*(world.registry.service.sweep() for _ in range(3)))
    assert keys(world, "uploads/") == []
    with world.registry.database() as session:
        assert session.scalars(select(UploadRow)).all() == []
