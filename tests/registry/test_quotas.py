"""Quotas: refused by name with the numbers, and not passed by any number of racers."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from lorikeet.rpc.errors import LorikeetError, QuotaViolation
from protos import registry_pb2 as pb
from tests.registry.conftest import World
from tests.registry.support import (
    BASE,
    declared,
    failure,
    fields,
    make_adapter,
    make_registered,
    publish,
    start_and_write,
)

NUM_RACERS = 64
ACME = "tenants/acme"


async def set_quota(world: World, **limits: int) -> pb.Tenant:
    tenant = pb.Tenant(name=ACME, quota=pb.TenantQuota(**limits))
    updated: pb.Tenant = await world.admin("UpdateTenant", pb.UpdateTenantRequest(tenant=tenant))
    return updated


async def usage(world: World) -> pb.TenantUsage:
    tenant = await world.admin("GetTenant", pb.GetTenantRequest(name=ACME))
    found: pb.TenantUsage = tenant.usage
    return found


async def outcomes(calls: list[Any]) -> tuple[int, set[str]]:
    """How many of the calls that run at once succeed, and why the others do not."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    refused = [result for result in results if isinstance(result, BaseException)]
    assert all(isinstance(error, LorikeetError) for error in refused), refused
    reasons = {error.reason for error in refused if isinstance(error, LorikeetError)}
    return len(results) - len(refused), reasons


async def test_racers_never_pass_the_number_of_adapters(world: World) -> None:
    await set_quota(world, max_adapters=5)
    made = await outcomes(
        [make_registered(world.publisher, "acme", f"bot-{n}") for n in range(NUM_RACERS)]
    )
    assert made == (5, {"QUOTA_EXCEEDED"})
    assert (await usage(world)).adapters == 5


async def test_racers_never_pass_the_bytes(world: World) -> None:
    name = await make_registered(world.publisher, "acme", "bot")
    files = declared(make_adapter().files())
    size = sum(file.size_bytes for file in files)
    await set_quota(world, max_bytes=3 * size + 1)
    request = pb.StartUploadRequest(adapter=name, files=files)
    started = await outcomes([world.publisher("StartUpload", request) for _ in range(NUM_RACERS)])
    assert started == (3, {"QUOTA_EXCEEDED"})
    used = await usage(world)
    assert (used.bytes, used.open_uploads) == (3 * size, 3)


async def test_racers_never_pass_the_number_of_versions(world: World) -> None:
    name = await make_registered(world.publisher, "acme", "bot")
    uploads = [
        await start_and_write(world.publisher, name, make_adapter(seed=seed).files())
        for seed in range(6)
    ]
    await set_quota(world, max_versions=2)
    requests = [pb.CommitUploadRequest(name=upload) for upload in uploads]
    committed = await outcomes([world.publisher("CommitUpload", request) for request in requests])
    assert committed == (2, {"QUOTA_EXCEEDED"})
    listed = await world.acme("ListAdapterVersions", pb.ListAdapterVersionsRequest(parent=name))
    assert [version.version for version in listed.versions] == [2, 1], "numbers stay dense"
    refused = pb.StartUploadRequest(adapter=name, files=declared(make_adapter(seed=9).files()))
    error = await failure(world.publisher, "StartUpload", refused)
    assert error.metadata["quota"] == "max_versions"


async def test_a_committed_upload_answers_although_the_quota_is_used_up(world: World) -> None:
    await set_quota(world, max_versions=1)
    name = await make_registered(world.publisher, "acme", "bot")
    upload = await start_and_write(world.publisher, name, make_adapter().files())
    request = pb.CommitUploadRequest(name=upload)
    versions = await asyncio.gather(*(world.publisher("CommitUpload", request) for _ in range(8)))
    assert {version.version for version in versions} == {1}


async def test_equal_bytes_count_once(world: World) -> None:
    files = make_adapter().files()
    size = sum(map(len, files.values()))
    for adapter in ("one", "two"):
        await publish(
            world.publisher, await make_registered(world.publisher, "acme", adapter), files
        )
    used = await usage(world)
    assert (used.bytes, used.versions, used.open_uploads) == (size, 2, 0)


async def test_unfinished_uploads_are_a_quota_too(world: World) -> None:
    name = await make_registered(world.publisher, "acme", "bot")
    request = pb.StartUploadRequest(adapter=name, files=declared(make_adapter().files()))
    started = await outcomes([world.publisher("StartUpload", request) for _ in range(70)])
    assert started == (64, {"QUOTA_EXCEEDED"})
    error = await failure(world.publisher, "StartUpload", request)
    assert error.quota_violations[0].subject == ACME
    assert error.metadata["quota"] == "max_open_uploads"


async def test_the_rank_is_the_tenants(world: World) -> None:
    await set_quota(world, max_rank=2)
    name = await make_registered(world.publisher, "acme", "bot")
    await publish(world.publisher, name, make_adapter(rank=2).files())
    upload = await start_and_write(world.publisher, name, make_adapter(rank=3).files())
    error = await failure(world.publisher, "CommitUpload", pb.CommitUploadRequest(name=upload))
    assert (error.reason, error.metadata["quota"]) == ("QUOTA_EXCEEDED", "max_rank")


async def test_a_refusal_names_the_quota_its_limit_and_its_use(world: World) -> None:
    await set_quota(world, max_adapters=1)
    await make_registered(world.publisher, "acme", "one")
    request = pb.CreateAdapterRequest(
        parent=ACME, adapter_id="two", adapter=pb.Adapter(base_model=BASE)
    )
    error = await failure(world.publisher, "CreateAdapter", request)
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
    expected = {"quota": "max_adapters", "limit": "1", "used": "1", "requested": "1"}
    assert error.metadata == expected
    assert error.quota_violations == (
        QuotaViolation(ACME, "max_adapters is 1, 1 used, 1 more asked for"),
    )
    await set_quota(world)  # an empty quota: the registry's defaults again
    await world.publisher("CreateAdapter", request)


async def test_tenants_are_updated_by_mask_and_etag(world: World) -> None:
    first = await set_quota(world, max_adapters=7, max_rank=8)
    assert (first.quota.max_adapters, first.quota.HasField("max_bytes")) == (7, False)
    tenant = pb.Tenant(name=ACME, quota=pb.TenantQuota(max_bytes=9), etag=first.etag)
    mask = FieldMask(paths=["quota.max_bytes", "quota.max_rank"])
    request = pb.UpdateTenantRequest(tenant=tenant, update_mask=mask)
    second = await world.admin("UpdateTenant", request)
    assert second.quota == pb.TenantQuota(max_adapters=7, max_bytes=9)
    stale = await failure(world.admin, "UpdateTenant", request)
    assert (stale.code, stale.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    request = pb.UpdateTenantRequest(
        tenant=pb.Tenant(name=ACME, display_name="Acme"), update_mask=FieldMask(paths=["*"])
    )
    third = await world.admin("UpdateTenant", request)
    assert (third.display_name, third.quota) == ("Acme", pb.TenantQuota())


@pytest.mark.parametrize(
    ("tenant", "paths", "named"),
    [
        ({}, [], "update_mask"),
        ({}, ["usage"], "update_mask"),
        ({}, ["quota.max_things"], "update_mask"),
        ({}, ["*", "quota"], "update_mask"),
        ({"usage": pb.TenantUsage(bytes=1)}, [], "tenant.usage"),
        ({"quota": pb.TenantQuota(max_bytes=-1)}, [], "tenant.quota.max_bytes"),
        ({"display_name": "x" * 300}, ["display_name"], "tenant.display_name"),
    ],
)
async def test_bad_tenant_updates_are_refused(
    world: World, tenant: dict[str, Any], paths: list[str], named: str
) -> None:
    request = pb.UpdateTenantRequest(
        tenant=pb.Tenant(name=ACME, **tenant), update_mask=FieldMask(paths=paths)
    )
    assert fields(await failure(world.admin, "UpdateTenant", request)) == [named]


async def test_concurrent_duplicates_make_one_tenant(world: World) -> None:
    request = pb.CreateTenantRequest(tenant_id="umbrella", request_id="r-1")
    answers = await asyncio.gather(*(world.admin("CreateTenant", request) for _ in range(16)))
    assert len({answer.SerializeToString() for answer in answers}) == 1
    request.tenant.display_name = "changed"
    assert (await failure(world.admin, "CreateTenant", request)).reason == "REQUEST_ID_REUSED"


async def test_only_administrators_change_quotas(world: World) -> None:
    request = pb.UpdateTenantRequest(tenant=pb.Tenant(name=ACME, quota=pb.TenantQuota(max_rank=1)))
    for client in (world.publisher, world.inference, world.stranger):
        assert (await failure(client, "UpdateTenant", request)).code == (
            grpc.StatusCode.PERMISSION_DENIED
        )
