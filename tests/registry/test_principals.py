"""Principals: subjects, etags, request ids, and what the audit trail keeps of their changes."""

import asyncio

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from lorikeet.rpc.errors import AbortedError, AlreadyExistsError
from protos import registry_pb2 as pb
from registry_service.failed_attempts import FailedAttempts
from tests.registry.conftest import Registry, World
from tests.registry.support import ACT_AS, USE, WHO, failure, grants

PARENT = "tenants/acme"
SPIFFE = "spiffe://example.org/app"


def creation(identifier: str, *subjects: str, **more: str) -> pb.CreatePrincipalRequest:
    principal = pb.Principal(subjects=subjects, grants=grants((USE, PARENT)))
    return pb.CreatePrincipalRequest(
        parent=PARENT, principal_id=identifier, principal=principal, **more
    )


async def test_subjects_are_read_and_replaced(world: World) -> None:
    created = await world.admin("CreatePrincipal", creation("app", "jwt:app", SPIFFE))
    assert list(created.subjects) == ["jwt:app", SPIFFE]
    got = await world.admin("GetPrincipal", pb.GetPrincipalRequest(name=created.name))
    assert got == created
    change = pb.Principal(name=created.name, subjects=["dns:app.example.org"], etag=created.etag)
    changed = await world.admin("UpdatePrincipal", pb.UpdatePrincipalRequest(principal=change))
    assert list(changed.subjects) == ["dns:app.example.org"]
    assert changed.etag != created.etag
    stale = await failure(
        world.admin, "UpdatePrincipal", pb.UpdatePrincipalRequest(principal=change)
    )
    assert (stale.code, stale.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    emptied = pb.UpdatePrincipalRequest(
        principal=pb.Principal(name=created.name), update_mask=FieldMask(paths=["subjects"])
    )
    assert not (await world.admin("UpdatePrincipal", emptied)).subjects
    await world.admin("CreatePrincipal", creation("heir", SPIFFE))


async def test_a_subject_means_one_principal(world: World) -> None:
    await world.admin("CreatePrincipal", creation("app", SPIFFE))
    taken = await failure(world.admin, "CreatePrincipal", creation("other", "jwt:x", SPIFFE))
    assert taken.code == grpc.StatusCode.ALREADY_EXISTS
    assert taken.metadata == {"subject": SPIFFE}
    assert "principals" not in taken.message, "whose it is stays unsaid"
    gone = pb.DeletePrincipalRequest(name=f"{PARENT}/principals/app")
    await world.admin("DeletePrincipal", gone)
    await world.admin("CreatePrincipal", creation("other", "jwt:x", SPIFFE))


async def test_the_form_of_a_subject_is_checked(world: World) -> None:
    for subject in (
        *("", "app", "spiffe://", "spiffe://Example.org/a", "spiffe://example.org//a"),
        *("spiffe://example.org/a\n", "spiffe://example.org/a?b", "dns:", "dns:*.example.org"),
        *("dns:Example.org", "dns:a..b", "jwt:", "jwt:a b", "jwt:é", "jwt:" + "a" * 300),
        *("email:a@example.org", "CN=app"),
    ):
        refused = await failure(world.admin, "CreatePrincipal", creation("app", subject))
        assert refused.code == grpc.StatusCode.INVALID_ARGUMENT, subject


async def test_a_repeated_creation_returns_what_the_first_made(world: World) -> None:
    request = creation("app", SPIFFE, request_id="r-1")
    first = await world.admin("CreatePrincipal", request)
    assert await world.admin("CreatePrincipal", request) == first
    other = await failure(world.admin, "CreatePrincipal", creation("b", request_id="r-1"))
    assert other.reason == "REQUEST_ID_REUSED"


async def test_grants_are_set_on_what_was_read(world: World) -> None:
    created = await world.admin("CreatePrincipal", creation("app"))
    request = pb.SetGrantsRequest(
        principal=created.name, grants=grants((ACT_AS, PARENT)), etag=created.etag
    )
    changed = await world.admin("SetGrants", request)
    assert changed.etag != created.etag
    assert (await failure(world.admin, "SetGrants", request)).reason == "ETAG_MISMATCH"
    asked = pb.ListAuditEventsRequest(resource_prefix=created.name, page_size=1)
    event = (await world.admin("ListAuditEvents", asked)).events[0]
    assert event.action == "principals.setGrants"
    assert dict(event.before) == {"grants": [f"PERMISSION_ADAPTERS_USE {PARENT}"]}
    assert dict(event.after) == {"grants": [f"PERMISSION_ACT_AS {PARENT}"]}


async def test_of_racers_for_a_subject_or_on_an_etag_one_wins(world: World) -> None:
    async def attempt(method: str, request: object) -> str:
        try:
            return str((await world.admin(method, request)).name)
        except (AlreadyExistsError, AbortedError) as error:
            return error.reason

    created = await asyncio.gather(
        *(attempt("CreatePrincipal", creation(f"p{i}", SPIFFE)) for i in range(16))
    )
    (winner,) = [name for name in created if "/" in name]
    read = await world.admin("GetPrincipal", pb.GetPrincipalRequest(name=winner))
    request = pb.SetGrantsRequest(principal=winner, etag=read.etag)
    changed = await asyncio.gather(*(attempt("SetGrants", request) for _ in range(16)))
    assert sorted(changed) == ["ETAG_MISMATCH"] * 15 + [winner]


async def test_names_of_callers_without_a_principal_are_not_given_away(world: World) -> None:
    refused = await failure(world.admin, "CreatePrincipal", creation("jwt.0123"))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT


async def test_failed_attempts_are_audited_but_not_every_one(registry: Registry) -> None:
    for _ in range(50):
        await failure(registry.client("lk_0_0"), "IdentifyCaller", WHO)
    asked = pb.ListAuditEventsRequest(page_size=1000)
    events = (await registry.admin("ListAuditEvents", asked)).events
    failed = [event for event in events if event.principal == "unauthenticated"]
    assert len(failed) == 30
    assert {(e.outcome, e.action, e.detail["operation"]) for e in failed} == {
        ("denied", "CREDENTIAL_INVALID", "identify_caller")
    }
    assert all(event.peer and event.request_id for event in failed)


def test_what_was_left_out_is_counted() -> None:
    now = [0.0]
    attempts = FailedAttempts(limit=2, clock=lambda: now[0])
    assert [attempts.take() for _ in range(5)] == [0, 0, None, None, None]
    now[0] = 60.0
    assert [attempts.take() for _ in range(3)] == [3, 0, None]
