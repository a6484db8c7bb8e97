"""Uploads: interrupted, corrupted, contended, expired."""

import asyncio
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from sqlalchemy import update

from lorikeet.rpc.errors import LorikeetError
from protos import registry_pb2 as pb
from registry_service.models import UploadRow
from tests.registry.conftest import World
from tests.registry.support import (
    CONFIG,
    DENIED,
    WEIGHTS,
    chunks,
    declared,
    failure,
    fields,
    make_adapter,
    make_registered,
    publish,
    read_file,
    start_and_write,
)

FILES = make_adapter().files()


@pytest.fixture
async def upload(world: World) -> str:
    adapter = await make_registered(world.publisher, "acme", "bot")
    request = pb.StartUploadRequest(adapter=adapter, files=declared(FILES))
    started: pb.Upload = await world.publisher("StartUpload", request)
    return started.name


def chunk(upload: str, data: bytes, offset: int = 0, **changes: Any) -> pb.WriteArtifactRequest:
    values = {"file_name": WEIGHTS, "crc32": zlib.crc32(data), **changes}
    return pb.WriteArtifactRequest(upload=upload, offset=offset, data=data, **values)


def arrived(upload: pb.Upload) -> dict[str, int]:
    return {file.file.file_name: file.committed_bytes for file in upload.files}


def stored_chunks(world: World) -> list[bytes]:
    """The pieces of unfinished uploads."""
    with world.registry.store() as store:
        streams = [store.open(entry.key) for entry in store.entries("uploads/")]
        pieces = [stream.read(10**6) for stream in streams]
        for stream in streams:
            stream.close()
    return pieces


async def test_an_interrupted_upload_is_resumed(world: World, upload: str) -> None:
    get = pb.GetUploadRequest(name=upload)
    offsets: dict[str, int] = {}

    async def first_half() -> Any:
        for request in list(chunks(upload, FILES, size=200))[:4]:
            yield request
        await asyncio.sleep(1.0)  # until the server has read them, on a busy machine too
        raise ConnectionError("the client dies here")

    with pytest.raises((LorikeetError, ConnectionError, asyncio.CancelledError)):
        await world.publisher("WriteArtifact", first_half())
    async with asyncio.timeout(20):
        while sum(offsets.values()) < 600:  # the server stores what had arrived
            offsets.update(arrived(await world.publisher("GetUpload", get)))
            await asyncio.sleep(0.01)
    rest = [
        chunk(upload, data[offsets[name] :], offsets[name], file_name=name)
        for name, data in FILES.items()
        if offsets[name] < len(data)
    ]
    await world.publisher("WriteArtifact", iter(rest))
    version = await world.publisher("CommitUpload", pb.CommitUploadRequest(name=upload))
    for name, data in FILES.items():
        assert await read_file(world.acme, version.name, name) == data
    assert arrived(await world.publisher("GetUpload", get)) == {n: len(FILES[n]) for n in FILES}


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"crc32": 1}, grpc.StatusCode.DATA_LOSS, "CHUNK_CORRUPT"),
        ({"offset": 1}, grpc.StatusCode.OUT_OF_RANGE, "OFFSET_MISMATCH"),
        ({"offset": -1}, grpc.StatusCode.OUT_OF_RANGE, "OFFSET_MISMATCH"),
        ({"data": b"x" * 5000}, grpc.StatusCode.OUT_OF_RANGE, "SIZE_EXCEEDED"),
        ({"data": b"x" * (2**20 + 1)}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"data": b""}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"file_name": "README.md"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"file_name": "../x"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    ],
)
async def test_bad_chunks_are_refused(
    world: World, upload: str, changes: dict[str, Any], code: grpc.StatusCode, reason: str
) -> None:
    request = chunk(upload, **{"data": b"abc", **changes})
    error = await failure(world.publisher, "WriteArtifact", iter([request]))
    assert (error.code, error.reason) == (code, reason)
    got = await world.publisher("GetUpload", pb.GetUploadRequest(name=upload))
    assert arrived(got) == {CONFIG: 0, WEIGHTS: 0}


async def test_one_stream_writes_to_one_upload(world: World, upload: str) -> None:
    other = chunk("uploads/other", b"def", 3)
    stream = iter([chunk(upload, b"abc"), other])
    error = await failure(world.publisher, "WriteArtifact", stream)
    assert fields(error) == ["upload"]
    assert fields(await failure(world.publisher, "WriteArtifact", iter([]))) == ["upload"]


async def test_concurrent_writers_cannot_mix(world: World, upload: str) -> None:
    async def write(letter: bytes) -> str:
        try:
            await world.publisher("WriteArtifact", iter([chunk(upload, letter * 100)]))
        except LorikeetError as error:
            return error.reason
        return "written"

    outcomes = await asyncio.gather(*(write(bytes([65 + n])) for n in range(8)))
    assert sorted(outcomes) == ["OFFSET_MISMATCH"] * 7 + ["written"]
    (stored,) = stored_chunks(world)  # what the others stored went with their refusals
    assert len(set(stored)) == 1


async def test_commit_needs_every_byte(world: World, upload: str) -> None:
    await world.publisher("WriteArtifact", iter([chunk(upload, FILES[WEIGHTS])]))
    request = pb.CommitUploadRequest(name=upload)
    error = await failure(world.publisher, "CommitUpload", request)
    assert (error.reason, fields(error)) == ("UPLOAD_INCOMPLETE", [CONFIG])
    config = chunk(upload, FILES[CONFIG], file_name=CONFIG)
    await world.publisher("WriteArtifact", iter([config]))
    assert (await world.publisher("CommitUpload", request)).version == 1
    late = await failure(world.publisher, "WriteArtifact", iter([chunk(upload, b"x")]))
    assert late.reason == "UPLOAD_COMMITTED"


async def test_commit_checks_the_declared_digest(world: World) -> None:
    adapter = await make_registered(world.publisher, "acme", "other")
    files = declared(FILES)
    files[1].sha256 = "0" * 64
    request = pb.StartUploadRequest(adapter=adapter, files=files)
    upload = (await world.publisher("StartUpload", request)).name
    await world.publisher("WriteArtifact", iter(list(chunks(upload, FILES))))
    commit = pb.CommitUploadRequest(name=upload)
    error = await failure(world.publisher, "CommitUpload", commit)
    assert (error.code, fields(error)) == (grpc.StatusCode.INVALID_ARGUMENT, [WEIGHTS])


async def test_aborted_uploads_are_gone(world: World, upload: str) -> None:
    await world.publisher("WriteArtifact", iter([chunk(upload, b"abc")]))
    await world.publisher("AbortUpload", pb.AbortUploadRequest(name=upload))
    assert stored_chunks(world) == []
    for method, request in (
        ("GetUpload", pb.GetUploadRequest(name=upload)),
        ("AbortUpload", pb.AbortUploadRequest(name=upload)),
        ("CommitUpload", pb.CommitUploadRequest(name=upload)),
        ("WriteArtifact", iter([chunk(upload, b"abc")])),
    ):
        assert (await failure(world.publisher, method, request)).code == DENIED


async def test_uploads_of_others_look_absent(world: World, upload: str) -> None:
    for name in (upload, "uploads/absent"):
        for client in (world.acme, world.stranger, world.inference):
            for method, request in (
                ("GetUpload", pb.GetUploadRequest(name=name)),
                ("CommitUpload", pb.CommitUploadRequest(name=name)),
                ("AbortUpload", pb.AbortUploadRequest(name=name)),
                ("WriteArtifact", iter([chunk(name, b"abc")])),
            ):
                error = await failure(client, method, request)
                assert (error.code, error.metadata["resource"]) == (DENIED, name)


async def test_a_request_id_starts_one_upload(world: World, upload: str) -> None:
    adapter = "tenants/acme/adapters/bot"
    request = pb.StartUploadRequest(adapter=adapter, files=declared(FILES), request_id="once")
    first = await world.publisher("StartUpload", request)
    assert (await world.publisher("StartUpload", request)).name == first.name != upload
    del request.files[1:]
    request.files.extend(declared(make_adapter(seed=1).files())[1:])
    assert (await failure(world.publisher, "StartUpload", request)).reason == "REQUEST_ID_REUSED"


async def test_expired_uploads_are_swept(world: World, upload: str) -> None:
    past = datetime.now(UTC) - timedelta(hours=1)
    with world.registry.database() as session:
        session.execute(update(UploadRow).values(expire_time=past))
    error = await failure(world.publisher, "WriteArtifact", iter([chunk(upload, b"abc")]))
    assert error.reason == "UPLOAD_EXPIRED"
    await world.registry.service.sweep()
    assert stored_chunks(world) == []
    get = pb.GetUploadRequest(name=upload)
    assert (await failure(world.publisher, "GetUpload", get)).code == DENIED


async def test_a_deleted_adapter_takes_no_version(world: World) -> None:
    adapter = await make_registered(world.publisher, "acme", "gone")
    upload = await start_and_write(world.publisher, adapter, FILES)
    await world.publisher("DeleteAdapter", pb.DeleteAdapterRequest(name=adapter))
    commit = pb.CommitUploadRequest(name=upload)
    error = await failure(world.publisher, "CommitUpload", commit)
    assert error.reason == "ADAPTER_DELETED"


async def test_files_are_read_from_any_offset(world: World, upload: str) -> None:
    large = {**FILES, "README.md": bytes(range(256)) * 2500}
    version = await publish(world.publisher, "tenants/acme/adapters/bot", large)
    assert await read_file(world.acme, version.name, "README.md") == large["README.md"]
    for offset in (len(large["README.md"]) + 1, -1):
        request = pb.ReadArtifactRequest(version=version.name, file_name="README.md", offset=offset)
        with pytest.raises(LorikeetError) as refused:
            await anext(world.acme.stream("ReadArtifact", request))
        assert refused.value.code == grpc.StatusCode.OUT_OF_RANGE
    request = pb.ReadArtifactRequest(
        version=version.name, file_name="README.md", offset=640_000 - 2
    )
    parts = [part async for part in world.acme.stream("ReadArtifact", request)]
    assert b"".join(part.data for part in parts) == b"\xfe\xff"
    request = pb.ReadArtifactRequest(version=version.name, file_name="x.py")
    with pytest.raises(LorikeetError) as absent:
        await anext(world.acme.stream("ReadArtifact", request))
    assert absent.value.reason == "FILE_NOT_FOUND"
