"""Imports: from objects that are there already; nobody else's, nothing unsafe, validated bytes."""

from collections.abc import Mapping
from typing import Any

import grpc
import pytest

from lorikeet.rpc.errors import LorikeetError
from protos import registry_pb2 as pb
from tests.registry.conftest import World
from tests.registry.support import (
    CONFIG,
    DENIED,
    WEIGHTS,
    failure,
    fields,
    make_adapter,
    make_registered,
    publish,
    read_file,
)

ADAPTER = "tenants/acme/adapters/bot"
FILES = make_adapter().files()


@pytest.fixture
async def adapter(world: World) -> str:
    return await make_registered(world.publisher, "acme", "bot")


def place(world: World, files: Mapping[str, bytes], prefix: str = "acme/math/v1") -> None:
    with world.registry.store() as store:
        for name, data in files.items():
            store.put_bytes(f"imports/{prefix}/{name}", data)


def request(**changes: Any) -> pb.ImportArtifactRequest:
    values: dict[str, Any] = {"adapter": ADAPTER, "prefix": "math/v1", **changes}
    return pb.ImportArtifactRequest(**values)


async def test_what_is_imported_is_kept_whatever_becomes_of_the_source(
    world: World, adapter: str
) -> None:
    place(world, FILES)
    profile = pb.AdapterProfile(stop=["END"])
    asked = request(aliases=["stable"], profile=profile, labels={"run": "7"}, request_id="once")
    version = await world.publisher("ImportArtifact", asked)
    assert (version.version, version.profile, dict(version.labels)) == (1, profile, {"run": "7"})
    assert version.base_model_config_digest
    place(world, {WEIGHTS: b"something else"})
    for name, data in FILES.items():
        assert await read_file(world.acme, version.name, name) == data
    resolve = pb.ResolveAdapterRequest(tenant="tenants/acme", name=f"{adapter}/aliases/stable")
    assert (await world.acme("ResolveAdapter", resolve)).version == version
    assert await world.publisher("ImportArtifact", asked) == version, "the source was not read"
    asked.prefix = "math/v2"
    assert (await failure(world.publisher, "ImportArtifact", asked)).reason == "REQUEST_ID_REUSED"


async def test_imported_and_uploaded_bytes_are_the_same_bytes(world: World, adapter: str) -> None:
    place(world, FILES)
    imported = await world.publisher("ImportArtifact", request())
    uploaded = await publish(world.publisher, adapter, FILES)
    assert (imported.digest, imported.storage_path) == (uploaded.digest, uploaded.storage_path)
    assert (imported.version, uploaded.version) == (1, 2)


@pytest.mark.parametrize(
    "prefix",
    [
        *("", "/", "..", "../globex/math", "a/../../globex", "/etc", "a//b", "a/", "./a", "a b"),
        *("s3://b/a", "https:", "a\\b", "a/é", "%2e%2e", ".hidden", "x" * 513, "a/" * 20 + "a"),
    ],
)
async def test_a_prefix_is_a_plain_path(world: World, adapter: str, prefix: str) -> None:
    error = await failure(world.publisher, "ImportArtifact", request(prefix=prefix))
    assert (error.code, fields(error)) == (grpc.StatusCode.INVALID_ARGUMENT, ["prefix"])


async def test_other_tenants_objects_are_out_of_reach(world: World, adapter: str) -> None:
    place(world, FILES, "globex/math/v1")
    assert (await failure(world.publisher, "ImportArtifact", request())).reason == "NOTHING_THERE"
    theirs = await make_registered(world.admin, "globex", "bot")
    error = await failure(world.publisher, "ImportArtifact", request(adapter=theirs))
    assert error.code == DENIED
    assert (await world.admin("ImportArtifact", request(adapter=theirs))).version == 1
    assert (await failure(world.acme, "ImportArtifact", request())).code == DENIED


async def test_only_an_adapters_files_are_imported(world: World, adapter: str) -> None:
    place(world, {**FILES, "evil.bin": b"x", "sub/train.py": b"x"})
    error = await failure(world.publisher, "ImportArtifact", request())
    assert error.reason == "UNSAFE_FORMAT"
    described = [violation.description for violation in error.violations]
    assert [("evil.bin" in d, "sub/train.py" in d) for d in described] == [
        (True, False),
        (False, True),
    ]
    place(world, {CONFIG: FILES[CONFIG]}, "acme/half")
    error = await failure(world.publisher, "ImportArtifact", request(prefix="half"))
    assert WEIGHTS in error.message
    place(world, {f"{n}": b"x" for n in range(40)}, "acme/many")
    error = await failure(world.publisher, "ImportArtifact", request(prefix="many"))
    assert error.reason == "UNSAFE_FORMAT"


async def test_a_refused_import_leaves_nothing(world: World, adapter: str) -> None:
    place(world, {**FILES, WEIGHTS: b"no tensors at all"})
    with pytest.raises(LorikeetError):
        await world.publisher("ImportArtifact", request())
    with world.registry.store() as store:
        assert list(store.entries("tenants/")) == []
    tenant = pb.GetTenantRequest(name="tenants/acme")
    assert (await world.admin("GetTenant", tenant)).usage.bytes == 0


async def test_an_import_counts_against_the_quota(world: World, adapter: str) -> None:
    limited = pb.Tenant(name="tenants/acme", quota=pb.TenantQuota(max_bytes=100))
    await world.admin("UpdateTenant", pb.UpdateTenantRequest(tenant=limited))
    place(world, FILES)
    error = await failure(world.publisher, "ImportArtifact", request())
    assert (error.reason, error.metadata["quota"]) == ("QUOTA_EXCEEDED", "max_bytes")
