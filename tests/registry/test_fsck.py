"""`fsck` finds what is damaged, names it, and is quiet about what is whole."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, select, update

from protos import registry_pb2 as pb
from registry_service.fsck.__main__ import main
from registry_service.models import BlobRow, UploadChunkRow
from tests.backends import Backend
from tests.registry.conftest import World
from tests.registry.support import (
    CONFIG,
    WEIGHTS,
    chunks,
    declared,
    make_adapter,
    make_registered,
    publish,
)

FILES = make_adapter().files()
Fsck = Callable[..., tuple[int, list[tuple[str, str]]]]


@pytest.fixture
def fsck(world: World, backend: Backend, capsys: pytest.CaptureFixture[str]) -> Fsck:
    """Runs it: exit status, and (problem, resource) of every finding."""

    def run(*extra: str) -> tuple[int, list[tuple[str, str]]]:
        place = ["--data-dir", str(world.registry.data_dir), *backend.arguments]
        status = main([*place, "--json", *extra])
        findings = json.loads(capsys.readouterr().out)["findings"]
        assert all(finding["advice"] for finding in findings)
        return status, [(finding["problem"], finding["resource"]) for finding in findings]

    return run


@pytest.fixture
async def version(world: World) -> pb.AdapterVersion:
    """A version, and an upload that is half there."""
    adapter = await make_registered(world.publisher, "acme", "bot")
    published = await publish(world.publisher, adapter, FILES)
    request = pb.StartUploadRequest(adapter=adapter, files=declared(FILES))
    upload = (await world.publisher("StartUpload", request)).name
    half = list(chunks(upload, {WEIGHTS: FILES[WEIGHTS]}))[:1]
    await world.publisher("WriteArtifact", iter(half))
    return published


async def test_all_is_well(version: pb.AdapterVersion, fsck: Fsck) -> None:
    assert fsck() == fsck("--quick") == (0, [])


@pytest.mark.parametrize(
    ("data", "problem", "quickly"),
    [
        (None, "OBJECT_MISSING", True),
        (b"short", "SIZE_DIFFERS", True),
        (bytes(len(FILES[WEIGHTS])), "BYTES_DIFFER", False),
    ],
)
async def test_damaged_objects_are_found(
    world: World,
    version: pb.AdapterVersion,
    fsck: Fsck,
    data: bytes | None,
    problem: str,
    quickly: bool,
) -> None:
    key = f"{version.storage_path}/{WEIGHTS}"
    with world.registry.store() as store:
        store.delete([key])
        if data is not None:
            store.put_bytes(key, data)
    found = (1, [(problem, version.name)])
    assert fsck() == found
    assert fsck("--quick") == (found if quickly else (0, []))
    await publish(world.publisher, "tenants/acme/adapters/bot", FILES)
    assert fsck() == (0, []), "pushing the same files again is what the advice says"


async def test_damaged_rows_are_found(world: World, version: pb.AdapterVersion, fsck: Fsck) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=2)
    with world.registry.database() as session:
        session.execute(update(BlobRow).values(state="deleting", touch_time=long_ago))
    problems = [("BLOB_NOT_STORED", version.name), ("REMOVAL_STUCK", version.storage_path)]
    assert fsck() == (1, problems)
    with world.registry.database() as session:
        session.execute(delete(BlobRow))
    assert fsck("--garbage-grace-hours", "0.0000001") == (
        1,
        [
            ("BLOB_MISSING", version.name),
            *(("STRAY_OBJECT", f"{version.storage_path}/{name}") for name in (CONFIG, WEIGHTS)),
        ],
    )


async def test_damaged_uploads_are_found(
    world: World, version: pb.AdapterVersion, fsck: Fsck
) -> None:
    with world.registry.database() as session:
        chunk = session.scalars(select(UploadChunkRow)).one()
        resource, key = f"uploads/{chunk.upload_id} {WEIGHTS}", chunk.object_key
        session.execute(update(UploadChunkRow).values(offset=7))
    assert fsck() == (1, [("PIECES_GAP", resource)])
    with world.registry.store() as store:
        store.delete([key])
    assert fsck() == (1, [("PIECES_GAP", resource), ("PIECE_MISSING", resource)])


async def test_strays_are_found_once_they_are_old(world: World, fsck: Fsck) -> None:
    stray = "uploads/gone/adapter_config.json/0-abc"
    with world.registry.store() as store:
        store.put_bytes(stray, b"x")
    assert fsck() == (0, [])
    assert fsck("--garbage-grace-hours", "0.0000001") == (1, [("STRAY_OBJECT", stray)])


def test_what_cannot_be_checked_is_no_clean_result(
    tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data-dir", f"{tmp_path}/nothing"]) == 2
    assert "there is no registry" in capsys.readouterr().err
