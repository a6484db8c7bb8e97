"""An adapter from PEFT, from its first byte to its deletion."""

import asyncio
import warnings
from pathlib import Path

import grpc
import pytest

from lorikeet.rpc.digests import manifest_digest
from protos import registry_pb2 as pb
from tests.registry.conftest import World
from tests.registry.support import (
    BASE,
    BASE_CONFIG,
    CONFIG,
    DENIED,
    REVISION,
    SOURCE,
    WEIGHTS,
    declared,
    failure,
    make_adapter,
    make_registered,
    publish,
    read_file,
    start_and_write,
)


@pytest.fixture(scope="module")
def peft_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What PEFT itself writes for a tiny Llama, with ranks that differ between modules."""
    directory = tmp_path_factory.mktemp("peft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' own deprecations
        _save_peft_adapter(directory)
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def _save_peft_adapter(directory: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {k: v for k, v in BASE_CONFIG.items() if k not in ("model_type", "architectures")}
    model = LlamaForCausalLM(LlamaConfig(**sizes))
    model.name_or_path = SOURCE
    config = LoraConfig(
        r=4,
        target_modules="all-linear",
        rank_pattern={"layers.1.self_attn.q_proj": 2, "^model.layers.0.mlp.up_proj": 8},
        use_rslora=True,
        task_type="CAUSAL_LM",
    )
    get_peft_model(model, config).save_pretrained(directory)


async def test_an_adapter_from_peft_lives_its_whole_life(
    world: World, peft_files: dict[str, bytes]
) -> None:
    adapter = await make_registered(world.publisher, "acme", "support-bot")
    version = await publish(world.publisher, adapter, peft_files, aliases=["stable"])

    assert version.name == f"{adapter}/versions/1"
    assert version.digest == manifest_digest(declared(peft_files))
    assert (version.rank, version.base_model, version.base_model_revision) == (8, BASE, REVISION)
    assert len(version.target_modules) == 7
    assert version.state == pb.VERSION_STATE_READY
    request = pb.ResolveAdapterRequest(tenant="tenants/acme", name=adapter, base_model=BASE)
    resolved = await world.inference("ResolveAdapter", request)
    assert (resolved.version.digest, resolved.alias) == (version.digest, "latest")
    for name, data in peft_files.items():
        assert await read_file(world.inference, version.name, name, "tenants/acme") == data

    got = await world.acme("GetAdapter", pb.GetAdapterRequest(name=adapter))
    assert got.latest_version == 1
    assert [alias.name.rpartition("/")[2] for alias in got.aliases] == ["latest", "stable"]
    await world.publisher("DeleteAdapter", pb.DeleteAdapterRequest(name=adapter))
    assert (await failure(world.inference, "ResolveAdapter", request)).code == DENIED
    await world.publisher("UndeleteAdapter", pb.UndeleteAdapterRequest(name=adapter))
    assert (await world.inference("ResolveAdapter", request)).version == version


async def test_parameters_are_counted(world: World, peft_files: dict[str, bytes]) -> None:
    adapter = await make_registered(world.publisher, "acme", "counted")
    version = await publish(world.publisher, adapter, peft_files)
    per_rank = sum(a + b for a, b in ((16, 16), (16, 8), (16, 8), (16, 16), (16, 24), (16, 24)))
    per_rank += 24 + 16
    expected = 2 * 4 * per_rank - 2 * (16 + 16) + 4 * (16 + 24)
    assert version.num_parameters == expected
    assert version.size_bytes == sum(len(data) for data in peft_files.values())


async def test_concurrent_commits_get_dense_numbers(world: World) -> None:
    adapter = await make_registered(world.publisher, "acme", "busy")
    uploads = await asyncio.gather(
        *(
            start_and_write(world.publisher, adapter, make_adapter(seed=seed).files())
            for seed in range(16)
        )
    )
    versions = await asyncio.gather(
        *(world.publisher("CommitUpload", pb.CommitUploadRequest(name=u)) for u in uploads)
    )
    assert sorted(version.version for version in versions) == list(range(1, 17))
    assert len({version.digest for version in versions}) == 16
    listed = await world.acme("ListAdapterVersions", pb.ListAdapterVersionsRequest(parent=adapter))
    assert [version.version for version in listed.versions] == list(range(16, 0, -1))
    got = await world.acme("GetAdapter", pb.GetAdapterRequest(name=adapter))
    assert got.latest_version == 16


async def test_committing_an_upload_many_times_makes_one_version(world: World) -> None:
    adapter = await make_registered(world.publisher, "acme", "retried")
    upload = await start_and_write(world.publisher, adapter, make_adapter().files())
    request = pb.CommitUploadRequest(name=upload, aliases=["stable"])
    versions = await asyncio.gather(*(world.publisher("CommitUpload", request) for _ in range(8)))
    assert {version.name for version in versions} == {f"{adapter}/versions/1"}
    changed = await failure(world.publisher, "CommitUpload", pb.CommitUploadRequest(name=upload))
    assert changed.reason == "UPLOAD_COMMITTED"


async def test_aliases_roll_back(world: World) -> None:
    adapter = await make_registered(world.publisher, "acme", "rolled")
    for seed in range(3):
        await publish(world.publisher, adapter, make_adapter(seed=seed).files(), ["stable"])
    alias = f"{adapter}/aliases/stable"
    resolve = pb.ResolveAdapterRequest(tenant="tenants/acme", name=alias)
    assert (await world.acme("ResolveAdapter", resolve)).version.version == 3
    await world.publisher("SetAlias", pb.SetAliasRequest(name=alias, version=1))
    resolved = await world.acme("ResolveAdapter", resolve)
    assert (resolved.version.version, resolved.alias) == (1, "stable")

    in_use = pb.DeleteAdapterVersionRequest(name=f"{adapter}/versions/1")
    assert (await failure(world.publisher, "DeleteAdapterVersion", in_use)).reason == (
        "VERSION_IN_USE"
    )
    await world.publisher("DeleteAlias", pb.DeleteAliasRequest(name=alias))
    gone = await failure(world.acme, "ResolveAdapter", resolve)
    assert (gone.code, gone.reason) == (grpc.StatusCode.NOT_FOUND, "ALIAS_NOT_FOUND")
    await world.publisher("DeleteAdapterVersion", in_use)
    missing = pb.SetAliasRequest(name=alias, version=1)
    assert (await failure(world.publisher, "SetAlias", missing)).reason == "VERSION_NOT_FOUND"


async def test_latest_is_kept_by_the_registry(world: World) -> None:
    adapter = await make_registered(world.publisher, "acme", "kept")
    resolve = pb.ResolveAdapterRequest(tenant="tenants/acme", name=adapter)
    assert (await failure(world.acme, "ResolveAdapter", resolve)).reason == "VERSION_NOT_FOUND"
    for seed in range(2):
        await publish(world.publisher, adapter, make_adapter(seed=seed).files())
    latest = f"{adapter}/aliases/latest"
    for method, request in (
        ("SetAlias", pb.SetAliasRequest(name=latest, version=1)),
        ("DeleteAlias", pb.DeleteAliasRequest(name=latest)),
    ):
        refused = await failure(world.publisher, method, request)
        assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    for number, left in ((2, 1), (1, 0)):
        name = f"{adapter}/versions/{number}"
        await world.publisher("DeleteAdapterVersion", pb.DeleteAdapterVersionRequest(name=name))
        got = await world.acme("GetAdapter", pb.GetAdapterRequest(name=adapter))
        assert got.latest_version == left
    again = await publish(world.publisher, adapter, make_adapter(seed=1).files())
    assert again.version == 3, "a deleted number is never given again"


async def test_resolution_checks_the_base_model(world: World) -> None:
    adapter = await make_registered(world.publisher, "acme", "based")
    await publish(world.publisher, adapter, make_adapter().files())

    async def resolve(base: str, revision: str) -> str:
        request = pb.ResolveAdapterRequest(
            tenant="tenants/acme", name=adapter, base_model=base, base_model_revision=revision
        )
        error = await failure(world.acme, "ResolveAdapter", request)
        assert error.code == grpc.StatusCode.FAILED_PRECONDITION
        return error.reason

    assert await resolve("baseModels/other", REVISION) == "BASE_MODEL_MISMATCH"
    assert await resolve(BASE, "r2") == "BASE_MODEL_MISMATCH"
    assert await resolve("", "r2") == "BASE_MODEL_MISMATCH"


async def test_bytes_of_a_version_are_where_its_row_says(world: World) -> None:
    adapter = await make_registered(world.publisher, "acme", "placed")
    files = make_adapter().files()
    version = await publish(world.publisher, adapter, files)
    assert version.storage_path == f"tenants/acme/sha256/{version.digest.removeprefix('sha256:')}"
    with world.registry.store() as store:
        stored = store.open(f"{version.storage_path}/{WEIGHTS}")
        assert stored.read(10**6) == files[WEIGHTS]
        stored.close()
        assert not list(store.entries("uploads/"))
        store.delete([f"{version.storage_path}/{CONFIG}"])
    request = pb.ReadArtifactRequest(version=version.name, file_name=CONFIG)
    call = world.acme.stream("ReadArtifact", request)
    with pytest.raises(Exception, match="missing or has another size"):
        await anext(call)
