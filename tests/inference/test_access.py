"""The allow-list and the identity, on every request, whatever the name looks like."""

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorikeet.rpc.errors import (
    LorikeetError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from protos import inference_pb2 as pb
from protos import registry_pb2
from tests.inference.world import User, World
from tests.registry.support import ACT_AS, ADMIN, PUBLISH, USE

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def denied(user: User, adapter: str, **fields: Any) -> LorikeetError:
    with pytest.raises(LorikeetError) as error:
        await user.generate(adapter, **fields)
    return error.value


async def test_the_owner_may_and_the_allowed_may(world: World) -> None:
    owner, guest = await world.user("owner"), await world.user("guest")
    version = await world.publish("owner", "math")
    await world.allow("tenants/owner/adapters/math", "guest")
    assert (await owner.generate("math")).start.digest == version.digest
    assert (await guest.generate("owner/math@1")).start.digest == version.digest
    assert world.engine.calls[-1].tenant == "guest"


async def test_forbidden_and_absent_look_alike(world: World) -> None:
    stranger = await world.user("stranger")
    await world.key("hider")
    await world.publish("hider", "here", aliases=["stable"])
    for selector in ("", "@stable", "@nowhere", "@1", "@99"):
        answers = [
            await denied(stranger, f"hider/{name}{selector}", prompt="x")
            for name in ("here", "gone")
        ]
        for answer, name in zip(answers, ("here", "gone"), strict=True):
            assert isinstance(answer, PermissionDeniedError)
            resource = f"tenants/hider/adapters/{name}"
            assert resource in answer.message
            assert answer.metadata["resource"] == resource
        assert answers[0].message.replace("here", "gone") == answers[1].message
        assert answers[0].reason == answers[1].reason
        assert answers[0].metadata.keys() == answers[1].metadata.keys()
    assert not world.engine.calls


async def test_a_denial_comes_before_any_look_at_the_request(world: World) -> None:
    stranger = await world.user("early")
    bad = pb.GenerateRequest(adapter="hider/x", sampling=pb.SamplingParams(top_p=9))
    with pytest.raises(PermissionDeniedError):
        await stranger.ask(bad)


async def test_what_the_owner_does_not_have_is_said_plainly_to_the_owner(world: World) -> None:
    owner = await world.user("plain")
    await world.publish("plain", "math")
    assert isinstance(await denied(owner, "math@7"), NotFoundError)


async def soon_denied(user: User, adapter: str) -> LorikeetError:
    """The refusal, once the registry's change has been heard of."""
    async with asyncio.timeout(5):
        while True:
            try:
                await user.generate(adapter)
            except LorikeetError as error:
                return error


async def test_a_revoked_tenant_is_soon_refused(world: World) -> None:
    guest = await world.user("revoked")
    await world.key("granter")
    await world.publish("granter", "math")
    await world.allow("tenants/granter/adapters/math", "revoked")
    await guest.generate("granter/math")
    await world.allow("tenants/granter/adapters/math")
    assert isinstance(await soon_denied(guest, "granter/math"), PermissionDeniedError)


async def test_a_deleted_key_is_soon_refused(world: World) -> None:
    user = await world.user("keys")
    await user.generate()
    listed = await world.admin(
        "ListApiKeys", registry_pb2.ListApiKeysRequest(parent="tenants/keys")
    )
    for key in listed.api_keys:
        await world.admin("DeleteApiKey", registry_pb2.DeleteApiKeyRequest(name=key.name))
    assert isinstance(await soon_denied(user, ""), UnauthenticatedError)


@pytest.mark.parametrize("key", ["", "wrong", "lk_0000000000000000_" + "x" * 43])
async def test_bad_credentials_all_look_alike(world: World, key: str) -> None:
    user = User(world.channel, key)
    for method, request in (
        ("Generate", pb.GenerateRequest(prompt="x")),
        ("PrefetchAdapters", pb.PrefetchAdaptersRequest(adapters=["a"])),
    ):
        with pytest.raises(UnauthenticatedError) as error:
            await user.stream(method, request)
        assert error.value.reason == "CREDENTIAL_INVALID"
    for method, message in (
        ("Tokenize", pb.TokenizeRequest(text="x")),
        ("Detokenize", pb.DetokenizeRequest()),
        ("GetServerInfo", pb.GetServerInfoRequest()),
        ("ListLoadedAdapters", pb.ListLoadedAdaptersRequest()),
        ("UnloadAdapter", pb.UnloadAdapterRequest(adapter="a")),
    ):
        with pytest.raises(UnauthenticatedError):
            await user(method, message)


async def test_tenants_are_spoken_for_only_with_a_grant(world: World) -> None:
    await world.key("spoken-for")
    version = await world.publish("spoken-for", "math")
    plain = await world.user("speaker")
    error = await denied(plain, "", tenant="tenants/spoken-for")
    assert (type(error), error.reason) == (PermissionDeniedError, "TENANT_MISMATCH")
    unknown = await denied(plain, "", tenant="tenants/no-such-tenant")
    assert (type(unknown), unknown.reason) == (PermissionDeniedError, "TENANT_MISMATCH")
    agent = await world.user("speaker", (ACT_AS, "tenants/spoken-for"), name="agent")
    answer = await agent.generate("math", tenant="tenants/spoken-for")
    assert answer.start.digest == version.digest
    assert world.engine.calls[-1].tenant == "spoken-for"


async def test_publishing_is_not_using(world: World) -> None:
    publisher = await world.user("pubs", (PUBLISH, "tenants/pubs"), name="publisher")
    await world.publish("pubs", "math")
    assert isinstance(await denied(publisher, ""), PermissionDeniedError)
    error = await denied(publisher, "math")
    assert "tenants/pubs/adapters/math" in error.message
    administrator = await world.user("pubs", (ADMIN, "*"), name="administrator")
    await administrator.generate("pubs/math")


@pytest.fixture
def opened_names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every path that is opened."""
    names: list[str] = []
    original = Path.open

    def spy(self: Path, *args: Any, **kwargs: Any) -> Any:
        names.append(str(self))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", spy)
    return names


HOSTILE = [
    *("../../etc/passwd", "..", "/etc/passwd", "a/../b", "a/b/c", "math\0", "math@../1", "~"),
    *("file:///etc/passwd", "s3://x/y", "C:\\x", "..%2f..", "math\n", "tenants/a/adapters/b"),
    *("a" * 5000, "💥", "math@1@2", ":", "@", "/", "hostile/@1", "hostile//x", "$(id)", "`id`"),
]


@pytest.mark.parametrize("name", HOSTILE)
async def test_no_name_is_ever_a_path(world: World, opened_names: list[str], name: str) -> None:
    user = await world.user("hostile", name=f"user{time.monotonic_ns()}")
    error = await denied(user, name)
    assert error.code in (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
    )
    assert not [path for path in opened_names if str(world.data_dir.parent) not in path]
    assert not world.engine.calls


async def test_generated_names_are_never_paths(world: World) -> None:
    user = await world.user("generated")
    before = sorted(world.data_dir.rglob("*"))
    names: list[str] = []

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(st.text("./\\:@ab1~%\0", min_size=1, max_size=16) | st.text(min_size=1, max_size=16))
    def collect(name: str) -> None:
        names.append(name)

    collect()
    for name in names:
        error = await denied(user, name)
        assert error.code in (
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.PERMISSION_DENIED,
            grpc.StatusCode.FAILED_PRECONDITION,
        )
    assert sorted(world.data_dir.rglob("*")) == before


async def test_use_of_everything_is_not_use_of_others_adapters(world: World) -> None:
    """A wide grant on adapters.use does not open an allow-list."""
    wide = await world.user("wide", (USE, "*"))
    await world.key("narrow")
    await world.publish("narrow", "math")
    assert isinstance(await denied(wide, "narrow/math"), PermissionDeniedError)
