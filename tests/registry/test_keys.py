"""API keys, administration, and what a key's owner is told about itself."""

from datetime import UTC, datetime, timedelta

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from protos import registry_pb2 as pb
from registry_service.models import Base
from tests.registry.conftest import Registry, World
from tests.registry.support import (
    ACT_AS,
    ADMIN,
    DENIED,
    PUBLISH,
    USE,
    WHO,
    failure,
    grants,
    make_key,
    make_tenant,
    shape,
)


async def test_every_bad_key_gets_the_same_answer(registry: Registry) -> None:
    await make_tenant(registry.admin, "acme")
    good = await make_key(registry.admin, "acme", "user", [])
    key_id = good.split("_")[1]
    answers = {
        shape(await failure(registry.client(key), "IdentifyCaller", WHO), "X")
        for key in (
            "",
            "nonsense",
            "lk_",
            f"lk_{key_id}",
            f"lk_{key_id}_",
            good[:-1],
            f"{good}x",
            good.upper(),
            "lk_0123456789abcdef_" + good.split("_", 2)[2],
            "lk_%_x",
        )
    }
    assert len(answers) == 1
    code, _, reason, _ = answers.pop()
    assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID")


async def test_deleted_and_expired_keys_stop_working(registry: Registry) -> None:
    await make_tenant(registry.admin, "acme")
    first = registry.client(await make_key(registry.admin, "acme", "user", []))
    principal = (await first("IdentifyCaller", WHO)).principal
    soon = Timestamp()
    soon.FromDatetime(datetime.now(UTC) + timedelta(seconds=0.4))
    request = pb.CreateApiKeyRequest(principal=principal, expire_time=soon)
    second_key = await registry.admin("CreateApiKey", request)
    second = registry.client(second_key.secret)
    assert (await second("IdentifyCaller", WHO)).tenant == "tenants/acme"
    while datetime.now(UTC) <= soon.ToDatetime(tzinfo=UTC):
        assert (await first("IdentifyCaller", WHO)).principal == principal
    assert (await failure(second, "IdentifyCaller", WHO)).reason == "CREDENTIAL_INVALID"

    keys = await registry.admin("ListApiKeys", pb.ListApiKeysRequest(parent="tenants/acme"))
    for key in keys.api_keys:
        await registry.admin("DeleteApiKey", pb.DeleteApiKeyRequest(name=key.name))
    assert (await failure(first, "IdentifyCaller", WHO)).reason == "CREDENTIAL_INVALID"


async def test_secrets_are_stored_only_as_hashes(registry: Registry) -> None:
    _, _, secret = registry.credentials["admin"].split("_", 2)  # it may have "_" of its own
    with registry.database() as session:
        tables = Base.metadata.sorted_tables
        rows = {table.name: session.execute(table.select()).all() for table in tables}
    assert rows["api_keys"]
    assert secret not in repr(rows)
    files = b"".join(path.read_bytes() for path in registry.data_dir.glob("registry.db*"))
    assert secret.encode() not in files
    assert (registry.data_dir / "credentials.json").stat().st_mode & 0o777 == 0o600


async def test_services_identify_their_callers(world: World) -> None:
    key = await make_key(world.admin, "acme", "caller", grants((USE, "tenants/acme")))
    asked = pb.IdentifyCallerRequest(api_key=key)
    for service in (world.inference, world.admin):
        identity = await service("IdentifyCaller", asked)
        assert identity.principal == "tenants/acme/principals/caller"
        assert list(identity.grants) == grants((USE, "tenants/acme"))
        assert identity.api_key == f"tenants/acme/apiKeys/{key.split('_')[1]}"
        assert not identity.HasField("expire_time")
    assert (await failure(world.acme, "IdentifyCaller", asked)).code == DENIED
    bad = pb.IdentifyCallerRequest(api_key=key[:-1])
    assert (await failure(world.inference, "IdentifyCaller", bad)).reason == "CREDENTIAL_INVALID"
    narrow = await make_key(world.admin, "globex", "agent", grants((ACT_AS, "tenants/globex")))
    refused = await failure(world.client(narrow), "IdentifyCaller", asked)
    assert refused.reason == "CREDENTIAL_INVALID", "a key of a tenant it may not act for"


async def test_administration_is_for_administrators(world: World) -> None:
    tenant, principal = "tenants/acme", "tenants/acme/principals/user0"
    for method, request in (
        ("CreateTenant", pb.CreateTenantRequest(tenant_id="new")),
        ("ListTenants", pb.ListTenantsRequest()),
        ("DeleteTenant", pb.DeleteTenantRequest(name=tenant)),
        ("CreatePrincipal", pb.CreatePrincipalRequest(parent=tenant, principal_id="p")),
        ("ListPrincipals", pb.ListPrincipalsRequest(parent=tenant)),
        ("DeletePrincipal", pb.DeletePrincipalRequest(name=principal)),
        ("SetGrants", pb.SetGrantsRequest(principal=principal)),
        ("CreateApiKey", pb.CreateApiKeyRequest(principal=principal)),
        ("ListApiKeys", pb.ListApiKeysRequest(parent=tenant)),
        ("DeleteApiKey", pb.DeleteApiKeyRequest(name=f"{tenant}/apiKeys/0")),
        ("CreateBaseModel", pb.CreateBaseModelRequest(base_model_id="b")),
        ("DeleteBaseModel", pb.DeleteBaseModelRequest(name="baseModels/tiny")),
        ("ListAuditEvents", pb.ListAuditEventsRequest()),
    ):
        for client in (world.publisher, world.inference):
            assert (await failure(client, method, request)).code == DENIED, method
    get = pb.GetTenantRequest(name=tenant)
    assert (await failure(world.publisher, "GetTenant", get)).code == DENIED
    # A service that acts for a tenant must know what to grant it, and nothing of what it stores.
    assert not (await world.inference("GetTenant", get)).HasField("usage")


async def test_an_administrator_cannot_lock_itself_out(registry: Registry) -> None:
    me = "tenants/platform/principals/admin"
    for method, request in (
        ("DeleteTenant", pb.DeleteTenantRequest(name="tenants/platform")),
        ("DeletePrincipal", pb.DeletePrincipalRequest(name=me)),
        ("SetGrants", pb.SetGrantsRequest(principal=me, grants=grants((USE, "*")))),
    ):
        refused = await failure(registry.admin, method, request)
        assert refused.code == grpc.StatusCode.FAILED_PRECONDITION


async def test_grants_are_checked(world: World) -> None:
    principal = "tenants/acme/principals/user0"
    for permission, scope in (
        (0, "*"),
        (99, "*"),
        (ADMIN, "tenants/acme"),
        (USE, ""),
        (USE, "tenants/nowhere"),
        (PUBLISH, "tenants/*"),
    ):
        request = pb.SetGrantsRequest(principal=principal, grants=grants((permission, scope)))
        refused = await failure(world.admin, "SetGrants", request)
        assert refused.code == grpc.StatusCode.INVALID_ARGUMENT, (permission, scope)
    twice = pb.SetGrantsRequest(principal=principal, grants=grants((USE, "*"), (USE, "*")))
    assert list((await world.admin("SetGrants", twice)).grants) == grants((USE, "*"))


async def test_whose_credential_is_refused_is_told_to_services(world: World) -> None:
    bad = pb.IdentifyCallerRequest(api_key="lk_0_0")
    theirs = await failure(world.inference, "IdentifyCaller", bad)
    own = await failure(world.client("lk_0_0"), "IdentifyCaller", bad)
    assert theirs.message == own.message
    assert theirs.metadata == {"credential": "presented"}
    assert own.metadata == {}


async def test_an_identity_tells_when_its_key_ends(world: World) -> None:
    await make_key(world.admin, "acme", "caller", grants((USE, "tenants/acme")))
    ends = datetime.now(UTC) + timedelta(minutes=5)
    request = pb.CreateApiKeyRequest(principal="tenants/acme/principals/caller")
    request.expire_time.FromDatetime(ends)
    created = await world.admin("CreateApiKey", request)
    asked = pb.IdentifyCallerRequest(api_key=created.secret)
    identity = await world.inference("IdentifyCaller", asked)
    assert identity.api_key == created.api_key.name
    assert identity.expire_time == created.api_key.expire_time
