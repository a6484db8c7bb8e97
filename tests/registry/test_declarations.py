"""What may be uploaded at all, and that a refused artifact leaves nothing behind."""

import numpy as np
import pytest

from lorikeet.rpc.errors import InvalidArgumentError
from protos import registry_pb2 as pb
from tests.registry.conftest import World
from tests.registry.support import (
    WEIGHTS,
    declared,
    failure,
    fields,
    make_adapter,
    make_registered,
    publish,
    tensor_name,
)


async def test_a_refused_adapter_makes_no_version(world: World) -> None:
    adapter = await make_registered(world.publisher, "acme", "broken")
    broken = make_adapter()
    name = tensor_name(0, "self_attn.q_proj", "A")
    broken.tensors[name][0, 0] = np.nan
    with pytest.raises(InvalidArgumentError) as error:
        await publish(world.publisher, adapter, broken.files())
    assert fields(error.value) == [name]
    with world.registry.store() as store:
        assert not list(store.entries("tenants/"))
    version = await publish(world.publisher, adapter, make_adapter().files())
    assert version.version == 1, "a refusal takes no number"


@pytest.mark.parametrize(
    "name",
    [
        "adapter_model.bin",
        "model.pt",
        "x.pkl",
        "run.py",
        "../README.md",
        "/etc/passwd",
        "",
        "a" * 9999,
    ],
)
async def test_other_files_are_unsafe(world: World, name: str) -> None:
    adapter = await make_registered(world.publisher, "acme", "unsafe")
    files = declared({**make_adapter().files(), name: b"x"})
    request = pb.StartUploadRequest(adapter=adapter, files=files)
    error = await failure(world.publisher, "StartUpload", request)
    assert (error.reason, fields(error)) == ("UNSAFE_FORMAT", ["files[2].file_name"])


async def test_declarations_are_checked(world: World) -> None:
    adapter = await make_registered(world.publisher, "acme", "declared")
    good = declared(make_adapter().files())

    async def answer(files: list[pb.ArtifactFile]) -> list[str]:
        request = pb.StartUploadRequest(adapter=adapter, files=files)
        return fields(await failure(world.publisher, "StartUpload", request))

    assert await answer([]) == ["files", "files"]
    assert await answer(good[:1]) == ["files"]
    assert await answer([*good, good[0]]) == ["files[2].file_name"]
    bad = pb.ArtifactFile(file_name="README.md", size_bytes=-1, sha256="ABC")
    assert await answer([*good, bad]) == ["files[2].size_bytes", "files[2].sha256"]
    huge = pb.ArtifactFile(file_name=WEIGHTS, size_bytes=1 << 40, sha256="0" * 64)
    request = pb.StartUploadRequest(adapter=adapter, files=[good[0], huge])
    assert (await failure(world.publisher, "StartUpload", request)).reason == "QUOTA_EXCEEDED"
