"""Who may call what: every role on every RPC, for what is there and for what is not."""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from lorikeet.rpc.errors import LorikeetError
from protos import registry_pb2 as pb
from tests.registry.conftest import World
from tests.registry.support import (
    ACT_AS,
    BASE,
    CONFIG,
    DENIED,
    PUBLISH,
    USE,
    Client,
    declared,
    grants,
    make_adapter,
    make_key,
    make_registered,
    publish,
    shape,
)

AUDIT = pb.PERMISSION_AUDIT
SERVICES = ("AdapterRegistry", "ArtifactService", "AccessService")
FILES = make_adapter().files()
STALE = '"stale"'

# All that have to do with acme, whose adapter is private, and one that has not.
STRANGER, POWERLESS, USER, PUBLISHER = "stranger", "powerless", "user", "publisher"
AGENT, AUDITOR, ADMIN = "agent", "auditor", "admin"
ROLES = (STRANGER, POWERLESS, USER, PUBLISHER, AGENT, AUDITOR, ADMIN)
EVERYONE = frozenset(ROLES)
READERS = EVERYONE - {STRANGER}
USERS = frozenset({USER, PUBLISHER, AGENT, ADMIN})
PUBLISHERS = frozenset({PUBLISHER, ADMIN})
AUDITORS = frozenset({AUDITOR, ADMIN})
SERVING = frozenset({AGENT, AUDITOR, ADMIN})
ADMINS = frozenset({ADMIN})


@dataclass(frozen=True)
class Target:
    """Names that a request is about; none of an absent target's is there."""

    tenant: str
    adapter_id: str
    upload: str
    principal_id: str
    key: str
    base: str

    @property
    def adapter(self) -> str:
        return f"{self.tenant}/adapters/{self.adapter_id}"

    @property
    def version(self) -> str:
        return f"{self.adapter}/versions/1"

    @property
    def principal(self) -> str:
        return f"{self.tenant}/principals/{self.principal_id}"

    def hidden(self, error: LorikeetError) -> str:
        """What a caller sees of an error, but for the names it asked about."""
        seen = repr(shape(error, "\x00"))
        names = [self.tenant, self.adapter_id, self.upload, self.principal_id, self.key, self.base]
        longest_first = sorted([*names, "tenants/acme"], key=len, reverse=True)
        return re.sub("|".join(map(re.escape, longest_first)), "X", seen)


Make = Callable[[Target], Any]


@dataclass(frozen=True)
class Rpc:
    """A request that changes nothing even for those who may: it is refused later, or harmless."""

    allowed: frozenset[str]
    make: Make


def _upload(target: Target) -> list[pb.WriteArtifactRequest]:
    return [pb.WriteArtifactRequest(upload=target.upload, file_name="none", data=b"x")]


RPCS: Mapping[str, Rpc] = {
    "CreateAdapter": Rpc(
        PUBLISHERS, lambda t: pb.CreateAdapterRequest(parent=t.tenant, adapter_id="new")
    ),
    "GetAdapter": Rpc(READERS, lambda t: pb.GetAdapterRequest(name=t.adapter)),
    "ListAdapters": Rpc(EVERYONE, lambda t: pb.ListAdaptersRequest(parent=t.tenant)),
    "UpdateAdapter": Rpc(
        PUBLISHERS,
        lambda t: pb.UpdateAdapterRequest(
            adapter=pb.Adapter(name=t.adapter, description="x", etag=STALE)
        ),
    ),
    "DeleteAdapter": Rpc(PUBLISHERS, lambda t: pb.DeleteAdapterRequest(name=t.adapter, etag=STALE)),
    "UndeleteAdapter": Rpc(PUBLISHERS, lambda t: pb.UndeleteAdapterRequest(name=t.adapter)),
    "PurgeAdapter": Rpc(PUBLISHERS, lambda t: pb.PurgeAdapterRequest(name=t.adapter)),
    "GetAdapterVersion": Rpc(READERS, lambda t: pb.GetAdapterVersionRequest(name=t.version)),
    "ListAdapterVersions": Rpc(READERS, lambda t: pb.ListAdapterVersionsRequest(parent=t.adapter)),
    "DeleteAdapterVersion": Rpc(
        PUBLISHERS, lambda t: pb.DeleteAdapterVersionRequest(name=t.version)
    ),
    "UndeleteAdapterVersion": Rpc(
        PUBLISHERS, lambda t: pb.UndeleteAdapterVersionRequest(name=t.version)
    ),
    "PurgeAdapterVersion": Rpc(PUBLISHERS, lambda t: pb.PurgeAdapterVersionRequest(name=t.version)),
    "SetAlias": Rpc(
        PUBLISHERS,
        lambda t: pb.SetAliasRequest(
            name=f"{t.adapter}/aliases/beta", version=1, adapter_etag=STALE
        ),
    ),
    "DeleteAlias": Rpc(
        PUBLISHERS,
        lambda t: pb.DeleteAliasRequest(name=f"{t.adapter}/aliases/beta", adapter_etag=STALE),
    ),
    "GetAccessPolicy": Rpc(READERS, lambda t: pb.GetAccessPolicyRequest(adapter=t.adapter)),
    "SetAccessPolicy": Rpc(
        PUBLISHERS,
        lambda t: pb.SetAccessPolicyRequest(policy=pb.AccessPolicy(adapter=t.adapter, etag=STALE)),
    ),
    "CreateBaseModel": Rpc(ADMINS, lambda t: pb.CreateBaseModelRequest(base_model_id="new")),
    "GetBaseModel": Rpc(EVERYONE, lambda t: pb.GetBaseModelRequest(name=t.base)),
    "ListBaseModels": Rpc(EVERYONE, lambda t: pb.ListBaseModelsRequest()),
    "DeleteBaseModel": Rpc(ADMINS, lambda t: pb.DeleteBaseModelRequest(name=t.base)),
    "ListAuditEvents": Rpc(
        AUDITORS, lambda t: pb.ListAuditEventsRequest(resource_prefix=t.adapter)
    ),
    "ResolveAdapter": Rpc(
        USERS, lambda t: pb.ResolveAdapterRequest(tenant="tenants/acme", name=t.adapter)
    ),
    "WatchAdapters": Rpc(ADMINS, lambda t: pb.WatchAdaptersRequest(from_revision=10**9)),
    "StartUpload": Rpc(PUBLISHERS, lambda t: pb.StartUploadRequest(adapter=t.adapter)),
    "WriteArtifact": Rpc(PUBLISHERS, _upload),
    "GetUpload": Rpc(PUBLISHERS, lambda t: pb.GetUploadRequest(name=t.upload)),
    "CommitUpload": Rpc(
        PUBLISHERS, lambda t: pb.CommitUploadRequest(name=t.upload, aliases=["Bad"])
    ),
    "AbortUpload": Rpc(PUBLISHERS, lambda t: pb.AbortUploadRequest(name=t.upload)),
    "ImportArtifact": Rpc(
        PUBLISHERS, lambda t: pb.ImportArtifactRequest(adapter=t.adapter, prefix="absent")
    ),
    "ReadArtifact": Rpc(
        USERS,
        lambda t: pb.ReadArtifactRequest(
            version=t.version, file_name=CONFIG, tenant="tenants/acme"
        ),
    ),
    "GetDownloadUrl": Rpc(
        USERS,
        lambda t: pb.GetDownloadUrlRequest(
            version=t.version, file_name=CONFIG, tenant="tenants/acme"
        ),
    ),
    "CreateTenant": Rpc(ADMINS, lambda t: pb.CreateTenantRequest(tenant_id="acme")),
    "GetTenant": Rpc(SERVING, lambda t: pb.GetTenantRequest(name=t.tenant)),
    "ListTenants": Rpc(AUDITORS, lambda t: pb.ListTenantsRequest()),
    "UpdateTenant": Rpc(
        ADMINS,
        lambda t: pb.UpdateTenantRequest(
            tenant=pb.Tenant(name=t.tenant, etag=STALE),
            update_mask=FieldMask(paths=["display_name"]),
        ),
    ),
    "DeleteTenant": Rpc(ADMINS, lambda t: pb.DeleteTenantRequest(name=t.tenant)),
    "CreatePrincipal": Rpc(
        ADMINS,
        lambda t: pb.CreatePrincipalRequest(parent=t.tenant, principal_id=t.principal_id),
    ),
    "GetPrincipal": Rpc(AUDITORS, lambda t: pb.GetPrincipalRequest(name=t.principal)),
    "ListPrincipals": Rpc(AUDITORS, lambda t: pb.ListPrincipalsRequest(parent=t.tenant)),
    "UpdatePrincipal": Rpc(
        ADMINS,
        lambda t: pb.UpdatePrincipalRequest(
            principal=pb.Principal(name=t.principal, etag=STALE),
            update_mask=FieldMask(paths=["display_name"]),
        ),
    ),
    "DeletePrincipal": Rpc(ADMINS, lambda t: pb.DeletePrincipalRequest(name=t.principal)),
    "SetGrants": Rpc(ADMINS, lambda t: pb.SetGrantsRequest(principal=t.principal, etag=STALE)),
    "CreateApiKey": Rpc(ADMINS, lambda t: pb.CreateApiKeyRequest(principal=t.principal)),
    "ListApiKeys": Rpc(AUDITORS, lambda t: pb.ListApiKeysRequest(parent=t.tenant)),
    "DeleteApiKey": Rpc(ADMINS, lambda t: pb.DeleteApiKeyRequest(name=t.key)),
    "IdentifyCaller": Rpc(EVERYONE, lambda t: pb.IdentifyCallerRequest()),
}


def methods() -> dict[str, Any]:
    return {
        method.name: method
        for service in SERVICES
        for method in pb.DESCRIPTOR.services_by_name[service].methods
    }


def test_every_rpc_has_its_row() -> None:
    assert set(RPCS) == set(methods())
    assert set(SERVICES) == set(pb.DESCRIPTOR.services_by_name)


@dataclass(frozen=True)
class Stage:
    """The callers by role, and what they ask about: what is there, then what is not."""

    callers: Mapping[str, Client]
    present: Target
    absent: tuple[Target, ...]


@pytest.fixture
async def stage(world: World) -> Stage:
    adapter = await make_registered(world.publisher, "acme", "bot")
    await publish(world.publisher, adapter, FILES, ["stable"])
    started = pb.StartUploadRequest(adapter=adapter, files=declared(FILES))
    upload = await world.publisher("StartUpload", started)
    parent = "tenants/acme"
    spare = pb.CreatePrincipalRequest(parent=parent, principal_id="spare")
    await world.admin("CreatePrincipal", spare)
    key = await world.admin(
        "CreateApiKey", pb.CreateApiKeyRequest(principal=f"{parent}/principals/spare")
    )

    async def caller(role: str, tenant: str, *pairs: tuple[int, str]) -> Client:
        return world.client(await make_key(world.admin, tenant, role, grants(*pairs)))

    callers = {
        STRANGER: await caller(
            STRANGER, "globex", (USE, "tenants/globex"), (PUBLISH, "tenants/globex")
        ),
        POWERLESS: await caller(POWERLESS, "acme"),
        USER: await caller(USER, "acme", (USE, parent)),
        PUBLISHER: await caller(PUBLISHER, "acme", (USE, parent), (PUBLISH, parent)),
        AGENT: await caller(AGENT, "initech", (ACT_AS, parent)),
        AUDITOR: await caller(AUDITOR, "initech", (AUDIT, parent)),
        ADMIN: world.admin,
    }
    present = Target(parent, "bot", upload.name, "spare", key.api_key.name, BASE)
    return Stage(callers, present, tuple(map(_absent, ("acme", "nowhere"))))


def _absent(tenant: str) -> Target:
    parent = f"tenants/{tenant}"
    key = f"{parent}/apiKeys/0123456789abcdef"
    return Target(parent, "gone", f"uploads/{'0' * 32}", "nobody", key, "baseModels/gone")


async def outcome(client: Client, method: str, request: Any) -> LorikeetError | None:
    """The error of a call, or None. Of a stream the first message is enough."""
    try:
        if methods()[method].server_streaming:
            async for _ in client.stream(method, request):
                return None
        else:
            sent = iter(request) if isinstance(request, list) else request
            await client(method, sent)
    except LorikeetError as error:
        return error
    return None


async def test_the_matrix(stage: Stage) -> None:
    wrong = []
    for method, rpc in RPCS.items():
        for role in ROLES:  # the administrator last: it alone could change something
            error = await outcome(stage.callers[role], method, rpc.make(stage.present))
            code = error.code if error else grpc.StatusCode.OK
            if code == grpc.StatusCode.UNIMPLEMENTED:
                continue
            if code == grpc.StatusCode.UNAUTHENTICATED or (
                (code == DENIED) == (role in rpc.allowed)
            ):
                wrong.append((method, role, code, str(error)))
    assert not wrong, "\n".join(map(str, wrong))


async def test_what_is_forbidden_and_what_is_absent_look_alike(stage: Stage) -> None:
    wrong = []
    for method, rpc in RPCS.items():
        roles = sorted(EVERYONE - rpc.allowed)
        answers = await asyncio.gather(*(answers_to(stage, role, method) for role in roles))
        wrong += [
            (method, role, seen) for role, seen in zip(roles, answers, strict=True) if len(seen) > 1
        ]
    assert not wrong, "\n".join(map(str, wrong))


async def answers_to(stage: Stage, role: str, method: str) -> set[str]:
    """What a role is told about what is there and about what is not; one answer if alike."""
    seen = set()
    for target in (stage.present, *stage.absent):
        error = await outcome(stage.callers[role], method, RPCS[method].make(target))
        seen.add(target.hidden(error) if error else "answered")
    return seen


async def test_who_may_see_a_tenant_learns_nothing_of_others(stage: Stage) -> None:
    """For those who are allowed in acme, another tenant is as absent as one that is not."""
    for role in EVERYONE - {ADMIN, STRANGER}:
        listed = pb.ListAdaptersRequest(parent="tenants/globex", show_deleted=True)
        assert not (await stage.callers[role]("ListAdapters", listed)).adapters


async def test_an_auditor_reads_what_it_audits_and_no_more(stage: Stage) -> None:
    auditor = stage.callers[AUDITOR]
    tenants = (await auditor("ListTenants", pb.ListTenantsRequest())).tenants
    assert [tenant.name for tenant in tenants] == ["tenants/acme"]
    for method, request in (
        ("GetTenant", pb.GetTenantRequest(name="tenants/globex")),
        ("ListPrincipals", pb.ListPrincipalsRequest(parent="tenants/initech")),
    ):
        error = await outcome(auditor, method, request)
        assert error is not None
        assert error.code == DENIED
    principal = await auditor("GetPrincipal", pb.GetPrincipalRequest(name=stage.present.principal))
    assert principal.name == stage.present.principal
    keys = (await auditor("ListApiKeys", pb.ListApiKeysRequest(parent="tenants/acme"))).api_keys
    assert stage.present.key in [key.name for key in keys]
