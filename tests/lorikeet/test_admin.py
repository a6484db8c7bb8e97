"""Registry clients: uploads that resume, allow-lists under concurrent change, names, pages."""

from pathlib import Path

import pytest

from lorikeet import AdminClient, AsyncAdminClient, errors
from lorikeet.operations.naming import adapter_name, alias_name, principal_name, version_name
from tests.lorikeet.fakes import FakeServer


def test_push_stores_every_byte_of_the_adapter_files(
    server: FakeServer, peft_directory: Path
) -> None:
    progress: list[tuple[int, int]] = []
    with AdminClient(server.address, "secret") as admin:
        version = admin.push(
            peft_directory, "acme/math", on_progress=lambda *step: progress.append(step)
        )
    stored = server.artifacts.stored
    assert version.version == 3
    assert set(stored) == {"adapter_config.json", "adapter_model.safetensors"}
    for name, content in stored.items():
        assert bytes(content) == (peft_directory / name).read_bytes()
    assert max(server.artifacts.chunk_sizes) == 512 * 1024
    total = sum(map(len, stored.values()))
    assert progress[-1] == (total, total)
    assert progress == sorted(progress)


def test_a_cut_upload_goes_on_where_it_was_cut(server: FakeServer, peft_directory: Path) -> None:
    server.artifacts.failures = 1
    with AdminClient(server.address, "secret") as admin:
        admin.push(peft_directory, "acme/math")
    assert server.artifacts.write_calls == 2
    stored = server.artifacts.stored["adapter_model.safetensors"]
    assert bytes(stored) == (peft_directory / "adapter_model.safetensors").read_bytes()


async def test_async_uploads_resume_too(server: FakeServer, peft_directory: Path) -> None:
    server.artifacts.failures = 1
    async with AsyncAdminClient(server.address, "secret") as admin:
        version = await admin.push(peft_directory, "acme/math")
    assert version.version == 3
    assert server.artifacts.write_calls == 2


def test_a_refused_artifact_is_aborted_and_says_why(
    server: FakeServer, peft_directory: Path
) -> None:
    server.artifacts.refusal = errors.InvalidArgumentError("rank 8 is not allowed", reason="RANK")
    with (
        AdminClient(server.address, "secret") as admin,
        pytest.raises(errors.InvalidArgumentError, match="rank 8"),
    ):
        admin.push(peft_directory, "acme/math")
    assert server.artifacts.aborted


def test_a_directory_without_an_adapter_is_refused_before_anything_is_sent(
    server: FakeServer, tmp_path: Path
) -> None:
    with (
        AdminClient(server.address, "secret") as admin,
        pytest.raises(errors.InvalidArgumentError, match=r"no adapter_config\.json"),
    ):
        admin.push(tmp_path, "acme/math")
    assert not server.artifacts.declared


def test_granting_keeps_what_others_granted_at_the_same_time(server: FakeServer) -> None:
    def interfere() -> None:
        server.registry.before_set = lambda: None
        server.registry.allowed.append("tenants/umbrella")
        server.registry.etag = "2"

    server.registry.before_set = interfere
    with AdminClient(server.address, "secret") as admin:
        policy = admin.grant_access("acme/math", "initech")
        assert list(policy.allowed_tenants) == [
            "tenants/globex",
            "tenants/initech",
            "tenants/umbrella",
        ]
        policy = admin.revoke_access("acme/math", "globex", "umbrella")
    assert list(policy.allowed_tenants) == ["tenants/initech"]


def test_one_tenant_is_not_taken_off_a_list_of_every_tenant(server: FakeServer) -> None:
    with AdminClient(server.address, "secret") as admin:
        assert list(admin.grant_access("acme/math", "*").allowed_tenants) == ["*"]
        assert list(admin.grant_access("acme/math", "initech").allowed_tenants) == ["*"]
        with pytest.raises(errors.FailedPreconditionError, match="every tenant"):
            admin.revoke_access("acme/math", "globex")
        assert not admin.revoke_access("acme/math", "*").allowed_tenants


def test_lists_are_complete(server: FakeServer) -> None:
    with AdminClient(server.address, "secret") as admin:
        names = [adapter.name for adapter in admin.list_adapters("acme")]
    assert [name.rpartition("/")[2] for name in names] == ["a1", "a2", "a3"]
    assert server.registry.page_tokens == ["", "p1", "p2"]


def test_creations_are_not_retried(server: FakeServer) -> None:
    with AdminClient(server.address, "secret") as admin:
        with pytest.raises(errors.UnavailableError):
            admin.create_tenant("busy")
        assert server.access.create_calls == 1


def test_short_and_full_names_are_the_same() -> None:
    full = "tenants/acme/adapters/math"
    assert adapter_name("acme/math") == adapter_name(full) == full
    assert version_name("acme/math@3") == version_name(f"{full}/versions/3")
    assert alias_name("acme/math", "stable") == f"{full}/aliases/stable"
    assert principal_name("acme/bot") == "tenants/acme/principals/bot"
    for bad in ("math", "acme/", "acme/Math", "acme/math/more", "tenants/acme"):
        with pytest.raises(errors.InvalidArgumentError):
            adapter_name(bad)


def test_methods_describe_themselves() -> None:
    assert "PEFT directory" in (AdminClient.push.__doc__ or "")
    assert "PEFT directory" in (AsyncAdminClient.push.__doc__ or "")
