"""The SDK's import and download against a real registry, and what a broken or lying one does."""

from pathlib import Path

import pytest

from lorikeet.admin import AsyncAdminClient
from lorikeet.operations.call import Drain
from lorikeet.operations.download import download
from lorikeet.rpc.errors import DataLossError, InvalidArgumentError, UnavailableError
from protos import registry_pb2 as pb
from tests.registry.conftest import Registry, _no_settings_from_outside, backend, registry, settings
from tests.registry.support import WEIGHTS, make_adapter, make_base_model

__all__ = ["_no_settings_from_outside", "backend", "registry", "settings"]

FILES = make_adapter().files()


@pytest.fixture
async def source(tmp_path: Path, registry: Registry) -> Path:
    """A PEFT directory for an adapter that exists."""
    directory = tmp_path / "peft"
    directory.mkdir()
    for name, data in FILES.items():
        (directory / name).write_bytes(data)
    await make_base_model(registry.admin)
    return directory


def client(registry: Registry) -> AsyncAdminClient:
    return AsyncAdminClient(registry.address, registry.credentials["admin"])


async def test_pushed_imported_and_downloaded_are_the_same(
    registry: Registry, source: Path, tmp_path: Path
) -> None:
    profile, labels = pb.AdapterProfile(stop=["END"]), {"run": "1"}
    async with client(registry) as admin:
        await admin.create_adapter("platform/bot", "tiny")
        pushed = await admin.push(source, "platform/bot", profile=profile, labels=labels)
        assert (pushed.profile, dict(pushed.labels)) == (profile, labels)
        with registry.store() as store:
            for name, data in FILES.items():
                store.put_bytes(f"imports/platform/in/{name}", data)
        imported = await admin.import_adapter("platform/bot", "in", aliases=["stable"])
        assert (imported.version, imported.digest) == (2, pushed.digest)
        progress: list[tuple[int, int]] = []
        target = tmp_path / "out"
        await admin.download("platform/bot@2", target, on_progress=lambda *p: progress.append(p))
        assert {path.name: path.read_bytes() for path in target.iterdir()} == FILES
        assert progress[-1] == (pushed.size_bytes, pushed.size_bytes)
        with pytest.raises(InvalidArgumentError) as there:
            await admin.download("platform/bot@2", target)
        assert there.value.reason == "FILE_EXISTS"


async def test_a_damaged_file_is_not_written(
    registry: Registry, source: Path, tmp_path: Path
) -> None:
    async with client(registry) as admin:
        await admin.create_adapter("platform/bot", "tiny")
        version = await admin.push(source, "platform/bot")
        with registry.store() as store:
            store.put_bytes(f"{version.storage_path}/{WEIGHTS}", bytes(len(FILES[WEIGHTS])))
        with pytest.raises(DataLossError, match="fsck"):
            await admin.download("platform/bot@1", tmp_path / "out")
    assert WEIGHTS not in {path.name for path in (tmp_path / "out").iterdir()}


def test_a_broken_download_goes_on_where_it_broke(tmp_path: Path) -> None:
    """The operation driven by hand, as a transport whose connection breaks would."""
    import hashlib
    import zlib

    data = bytes(range(256)) * 10
    file = pb.ArtifactFile(
        file_name=WEIGHTS, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
    )
    operation = download("acme/bot@1", tmp_path)
    next(operation)
    step = operation.send(pb.AdapterVersion(files=[file]))
    offsets = []
    for end in (1000, 1000, 2560):
        assert isinstance(step, Drain)
        offset = step.call.request.offset  # type: ignore[attr-defined]
        offsets.append(offset)
        if offset < end:
            part = data[offset:end]
            chunk = pb.ReadArtifactResponse(offset=offset, data=part, crc32=zlib.crc32(part))
            step.take(chunk)
        if end < 2560:
            operation.throw(UnavailableError("gone"))  # a pause
            step = next(operation)
    with pytest.raises(StopIteration):
        operation.send(None)
    assert offsets == [0, 1000, 1000]
    assert (tmp_path / WEIGHTS).read_bytes() == data
