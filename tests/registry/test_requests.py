"""Fields, pages, etags, request ids; and the RPCs that are not there yet."""

from collections.abc import Mapping
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct

from lorikeet.rpc.errors import LorikeetError
from protos import registry_pb2 as pb
from tests.registry.conftest import Registry, World
from tests.registry.support import (
    BASE,
    Client,
    failure,
    fields,
    make_adapter,
    make_registered,
    make_tenant,
    publish,
)


async def pages(client: Client, method: str, request: Any, field: str) -> list[list[Any]]:
    """Every page of a listing."""
    result = []
    while True:
        response = await client(method, request)
        result.append(list(getattr(response, field)))
        if not response.next_page_token:
            return result
        request.page_token = response.next_page_token


async def test_pages_cover_everything_once(world: World) -> None:
    for number in range(5):
        await make_registered(world.publisher, "acme", f"bot-{number}")
    for seed in range(3):
        adapter = "tenants/acme/adapters/bot-0"
        await publish(world.publisher, adapter, make_adapter(seed=seed).files())
    tenant = "tenants/acme"
    for client, method, request, field, expected in (
        (world.acme, "ListAdapters", pb.ListAdaptersRequest(parent=tenant), "adapters", 5),
        (world.acme, "ListAdapterVersions", _versions(adapter), "versions", 3),
        (world.acme, "ListBaseModels", pb.ListBaseModelsRequest(), "base_models", 1),
        (world.admin, "ListTenants", pb.ListTenantsRequest(), "tenants", 4),
        (world.admin, "ListPrincipals", _principals(tenant), "principals", 2),
        (world.admin, "ListApiKeys", pb.ListApiKeysRequest(parent=tenant), "api_keys", 2),
    ):
        request.page_size = 2
        got = await pages(client, method, request, field)
        names = [item.name for page in got for item in page]
        assert len(names) == len(set(names)) == expected
        assert [len(page) for page in got[:-1]] == [2] * (len(got) - 1)


def _versions(adapter: str) -> pb.ListAdapterVersionsRequest:
    return pb.ListAdapterVersionsRequest(parent=adapter)


def _principals(tenant: str) -> pb.ListPrincipalsRequest:
    return pb.ListPrincipalsRequest(parent=tenant)


async def test_page_tokens_are_bound_to_their_listing(world: World) -> None:
    for number in range(3):
        await make_registered(world.publisher, "acme", f"bot-{number}")
    request = pb.ListAdaptersRequest(parent="tenants/acme", page_size=1)
    token = (await world.acme("ListAdapters", request)).next_page_token
    for changes in (
        {"parent": "tenants/globex"},
        {"filter": "bot"},
        {"show_deleted": True},
        {"page_token": token[:-2] + "AA"},
        {"page_token": "bm9uc2Vuc2U="},
        {"page_token": "é"},
    ):
        values: dict[str, Any] = {"parent": "tenants/acme", "page_token": token, **changes}
        error = await failure(world.acme, "ListAdapters", pb.ListAdaptersRequest(**values))
        assert (error.reason, fields(error)) == ("INVALID_PAGE_TOKEN", ["page_token"])
    other = pb.ListPrincipalsRequest(parent="tenants/acme", page_token=token)
    assert (await failure(world.admin, "ListPrincipals", other)).reason == "INVALID_PAGE_TOKEN"
    negative = pb.ListAdaptersRequest(parent="tenants/acme", page_size=-1)
    assert fields(await failure(world.acme, "ListAdapters", negative)) == ["page_size"]


async def test_the_page_size_may_change_between_pages(world: World) -> None:
    for number in range(6):
        await make_registered(world.publisher, "acme", f"bot-{number}")
    request = pb.ListAdaptersRequest(parent="tenants/acme")
    seen = []
    for request.page_size in (1, 3, 2):
        response = await world.acme("ListAdapters", request)
        seen += [adapter.name[-1] for adapter in response.adapters]
        request.page_token = response.next_page_token
    assert seen == list("012345")
    assert not request.page_token


async def test_page_tokens_are_bound_to_what_the_caller_may_see(world: World) -> None:
    for number in range(3):
        name = await make_registered(world.publisher, "acme", f"bot-{number}")
        policy = pb.AccessPolicy(adapter=name, allowed_tenants=["tenants/globex"])
        await world.publisher("SetAccessPolicy", pb.SetAccessPolicyRequest(policy=policy))
    request = pb.ListAdaptersRequest(parent="tenants/acme", page_size=1)
    request.page_token = (await world.acme("ListAdapters", request)).next_page_token
    assert len((await world.publisher("ListAdapters", request)).adapters) == 1
    for client in (world.globex, world.stranger):
        assert (await failure(client, "ListAdapters", request)).reason == "INVALID_PAGE_TOKEN"


async def test_listing_filters_by_prefix(world: World) -> None:
    for name in ("support-a", "support-b", "sales"):
        await make_registered(world.publisher, "acme", name)
    deleted = pb.DeleteAdapterRequest(name="tenants/acme/adapters/support-b")
    await world.publisher("DeleteAdapter", deleted)
    for show_deleted, expected in ((False, ["support-a"]), (True, ["support-a", "support-b"])):
        request = pb.ListAdaptersRequest(
            parent="tenants/acme", filter="support", show_deleted=show_deleted
        )
        response = await world.acme("ListAdapters", request)
        assert [a.name.rpartition("/")[2] for a in response.adapters] == expected


async def test_updates_follow_the_mask_and_the_etag(world: World) -> None:
    name = await make_registered(world.publisher, "acme", "bot")
    sampling = Struct()
    sampling.update({"temperature": 0.5, "stop": ["###"]})
    profile = pb.AdapterProfile(stop=["</s>"], default_sampling=sampling)
    adapter = pb.Adapter(name=name, description="d", labels={"team": "x"}, profile=profile)
    mask = FieldMask(paths=["description", "profile"])
    request = pb.UpdateAdapterRequest(adapter=adapter, update_mask=mask)
    updated = await world.publisher("UpdateAdapter", request)
    assert (updated.description, dict(updated.labels)) == ("d", {})
    assert updated.profile == profile

    whole = pb.Adapter(name=name, labels={"team": "x"}, etag=updated.etag)
    again = await world.publisher("UpdateAdapter", pb.UpdateAdapterRequest(adapter=whole))
    assert (again.description, dict(again.labels)) == ("d", {"team": "x"})
    stale = await failure(world.publisher, "UpdateAdapter", pb.UpdateAdapterRequest(adapter=whole))
    assert (stale.code, stale.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    for delete in (pb.DeleteAdapterRequest(name=name, etag=updated.etag),):
        assert (await failure(world.publisher, "DeleteAdapter", delete)).reason == "ETAG_MISMATCH"


@pytest.mark.parametrize(
    ("adapter", "paths", "named"),
    [
        ({}, ["nonsense"], "update_mask"),
        ({}, ["base_model"], "update_mask"),
        ({}, [], "update_mask"),
        ({"base_model": BASE}, [], "adapter.base_model"),
        ({"display_name": "x" * 300}, ["display_name"], "adapter.display_name"),
        ({"description": "\0"}, ["description"], "adapter.description"),
        ({"labels": {"k": "v" * 64}}, ["labels"], "adapter.labels['k']"),
        (
            {"profile": {"default_sampling": {"temprature": 1}}},
            [],
            "adapter.profile.default_sampling",
        ),
        ({"profile": {"default_sampling": {"top_k": "x"}}}, [], "adapter.profile.default_sampling"),
        ({"profile": {"stop": [""]}}, ["profile"], "adapter.profile.stop[0]"),
    ],
)
async def test_bad_updates_are_refused(
    world: World, adapter: Mapping[str, Any], paths: list[str], named: str
) -> None:
    name = await make_registered(world.publisher, "acme", "bot")
    request = pb.UpdateAdapterRequest(
        adapter=pb.Adapter(name=name, **adapter), update_mask=FieldMask(paths=paths)
    )
    error = await failure(world.publisher, "UpdateAdapter", request)
    assert (error.code, fields(error)) == (grpc.StatusCode.INVALID_ARGUMENT, [named])


async def test_unknown_and_output_fields_are_refused(world: World) -> None:
    # Field 99 does not exist: a client with newer protos would think it was obeyed.
    unknown = pb.GetAdapterRequest.FromString(b"\x9a\x06\x01x")
    error = await failure(world.acme, "GetAdapter", unknown)
    assert error.reason == "UNKNOWN_FIELD"
    nested = pb.CreateAdapterRequest(parent="tenants/acme", adapter_id="a")
    nested.adapter.MergeFromString(b"\x9a\x06\x01x")
    assert (await failure(world.publisher, "CreateAdapter", nested)).reason == "UNKNOWN_FIELD"
    output = pb.CreateAdapterRequest(
        parent="tenants/acme", adapter_id="a", adapter=pb.Adapter(base_model=BASE, latest_version=7)
    )
    error = await failure(world.publisher, "CreateAdapter", output)
    assert fields(error) == ["adapter.latest_version"]


async def test_policies_have_etags_and_know_tenants(world: World) -> None:
    name = await make_registered(world.publisher, "acme", "bot")
    first = await world.acme("GetAccessPolicy", pb.GetAccessPolicyRequest(adapter=name))
    policy = pb.AccessPolicy(
        adapter=name, allowed_tenants=["tenants/globex", "tenants/acme"], etag=first.etag
    )
    stored = await world.publisher("SetAccessPolicy", pb.SetAccessPolicyRequest(policy=policy))
    assert list(stored.allowed_tenants) == ["tenants/globex"], "the owner always may"
    stale = await failure(
        world.publisher, "SetAccessPolicy", pb.SetAccessPolicyRequest(policy=policy)
    )
    assert stale.code == grpc.StatusCode.ABORTED
    unknown = pb.AccessPolicy(adapter=name, allowed_tenants=["tenants/nowhere"])
    error = await failure(
        world.publisher, "SetAccessPolicy", pb.SetAccessPolicyRequest(policy=unknown)
    )
    assert (error.reason, fields(error)) == ("UNKNOWN_TENANT", ["policy.allowed_tenants"])


async def test_creating_is_idempotent_by_request_id(world: World) -> None:
    request = pb.CreateAdapterRequest(
        parent="tenants/acme",
        adapter_id="bot",
        adapter=pb.Adapter(base_model=BASE),
        request_id="r-1",
    )
    first = await world.publisher("CreateAdapter", request)
    assert await world.publisher("CreateAdapter", request) == first
    request.adapter.description = "changed"
    assert (await failure(world.publisher, "CreateAdapter", request)).reason == "REQUEST_ID_REUSED"
    request.request_id = ""
    taken = await failure(world.publisher, "CreateAdapter", request)
    assert taken.code == grpc.StatusCode.ALREADY_EXISTS


async def test_identifiers_are_checked(registry: Registry) -> None:
    for identifier in ("", "Upper", "a/b", "-a", "a" * 64, "é"):
        with pytest.raises(LorikeetError) as refused:
            await make_tenant(registry.admin, identifier)
        assert refused.value.reason == "INVALID_NAME"
