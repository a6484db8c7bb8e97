"""The registry's part of the command line and of the SDK, against a real registry process."""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lorikeet import AdminClient, AsyncAdminClient, errors
from lorikeet.cli import app
from tests.registry.process import Process
from tests.registry.support import BASE_CONFIG, REVISION, SOURCE, make_adapter


@dataclass(frozen=True)
class Registry:
    address: str
    key: str
    adapters: list[Path]

    def run(self, *arguments: str, tenant: str = "acme") -> Result:
        options = ["--registry", self.address, "--api-key", self.key, "--tenant", tenant]
        return CliRunner().invoke(app, [*options, *arguments])

    def ok(self, *arguments: str) -> str:
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ok(*arguments, "--json"))

    def refused(self, *arguments: str) -> str:
        result = self.run(*arguments)
        assert result.exit_code == 1, result.output
        assert "Traceback" not in result.output
        return result.stderr


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    directory = tmp_path_factory.mktemp("registry")
    (directory / "config.json").write_text(json.dumps(BASE_CONFIG))
    adapters = []
    for seed in range(3):
        path = directory / f"adapter-{seed}"
        path.mkdir()
        for name, data in make_adapter(seed=seed).files().items():
            (path / name).write_bytes(data)
        adapters.append(path)
    process = Process(directory / "data")
    try:
        address = process.wait_ready()
        key = json.loads((directory / "data" / "credentials.json").read_text())["admin"]
        with AdminClient(address, key) as admin:
            admin.register_base_model("tiny", directory, source=SOURCE, revision=REVISION)
            for tenant in ("acme", "globex"):
                admin.create_tenant(tenant)
        yield Registry(address, key, adapters)
    finally:
        process.stop(signal.SIGTERM)


@pytest.fixture
def registry(process: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    for name in ("REGISTRY", "INFERENCE", "API_KEY", "TENANT"):
        monkeypatch.delenv(f"LORIKEET_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    return process


def test_an_adapter_lives_and_goes_by_command(registry: Registry, tmp_path: Path) -> None:
    for path in registry.adapters[:2]:
        registry.ok("adapters", "push", str(path), "math", "--alias", "stable")
    profile = tmp_path / "profile.json"
    profile.write_text('{"stop": ["###"]}')
    registry.ok("adapters", "update", "math", "--label", "team=x", "--profile", str(profile))
    registry.ok("adapters", "update", "math", "--label", "tier=2", "--remove-label", "team")
    shown = registry.json("adapters", "show", "math")
    assert shown["adapter"]["labels"] == {"tier": "2"}
    assert shown["adapter"]["profile"]["stop"] == ["###"]
    assert [version["version"] for version in shown["versions"]] == [2, 1]
    table = registry.ok("adapters", "show", "math")
    assert "stable=@2" in table
    assert "tier=2" in table

    assert "acme/math" in registry.ok("adapters", "list", "--filter", 'labels.tier = "2"')
    assert registry.json("adapters", "list", "--filter", 'labels.tier = "3"') == []
    assert "OR" in registry.refused("adapters", "list", "--filter", "a OR b")

    registry.ok("adapters", "update", "math", "--warm", "stable", "--warm", "latest")
    (listed,) = registry.json("adapters", "list", "--filter", "warm = true")
    assert listed["warm_aliases"] == ["latest", "stable"]
    for words in (("list",), ("show", "math")):
        assert "latest, stable" in registry.ok("adapters", *words)
    assert "not both" in registry.refused("adapters", "update", "math", "--warm", "x", "--no-warm")
    registry.ok("adapters", "update", "math", "--no-warm")
    assert registry.json("adapters", "list", "--filter", "warm = true") == []

    etag = registry.json("adapters", "show", "math")["adapter"]["etag"]
    registry.ok("adapters", "alias", "set", "math", "stable", "1", "--etag", etag)
    assert "ETAG_MISMATCH" in registry.refused(
        *("adapters", "alias", "set", "math", "stable", "2", "--etag", etag)
    )
    assert "stable" in registry.refused("adapters", "versions", "delete", "math@1", "-y")
    registry.ok("adapters", "alias", "delete", "math", "stable")

    said = registry.ok("adapters", "versions", "delete", "math@2", "--yes")
    assert "versions undelete acme/math@2" in said
    assert "deleted until" in registry.ok("adapters", "versions", "list", "math", "--deleted")
    registry.ok("adapters", "versions", "undelete", "math@2")
    registry.ok("adapters", "versions", "delete", "math@2", "--yes")
    assert registry.json("adapters", "versions", "purge", "math@2", "-y")["state"] == (
        "VERSION_STATE_PURGED"
    )
    assert "purged" in registry.ok("adapters", "versions", "show", "math@2")

    assert "ADAPTER_NOT_DELETED" in registry.refused("adapters", "purge", "math", "-y")
    assert "adapters undelete acme/math" in registry.ok("adapters", "delete", "math", "-y")
    assert "deleted, purged at" in registry.ok("adapters", "list", "--deleted")
    registry.ok("adapters", "undelete", "math")
    registry.ok("adapters", "delete", "math", "-y")
    registry.ok("adapters", "purge", "math", "-y")
    assert registry.json("adapters", "list", "--deleted") == []


def test_nothing_is_purged_without_a_yes(registry: Registry) -> None:
    result = CliRunner().invoke(
        app,
        ["--registry", registry.address, "--api-key", registry.key, "adapters", "purge", "a/b"],
        input="n\n",
    )
    assert "Nothing brings them back" in result.output
    assert result.exit_code != 0


def test_allow_lists_by_command(registry: Registry) -> None:
    registry.ok("adapters", "push", str(registry.adapters[0]), "shared")
    registry.ok("adapters", "policy", "set", "shared", "globex")
    assert "globex" in registry.ok("adapters", "policy", "get", "shared")
    etag = registry.json("adapters", "policy", "get", "shared")["etag"]
    registry.ok("adapters", "policy", "set", "shared")
    assert "ETAG_MISMATCH" in registry.refused(
        *("adapters", "policy", "set", "shared", "globex", "--etag", etag)
    )
    assert "nobody else" in registry.ok("adapters", "policy", "get", "shared")


def test_quotas_by_command(registry: Registry) -> None:
    registry.ok("tenants", "create", "small", "--max-adapters", "0", "--max-bytes", "2MiB")
    shown = registry.json("tenants", "show", "small")
    assert shown["quota"] == {"max_adapters": 0, "max_bytes": 2 * 2**20}
    push = ("adapters", "push", str(registry.adapters[0]), "small/bot")
    refusal = registry.refused(*push)
    assert "QUOTA_EXCEEDED" in refusal
    assert "tenants/small: max_adapters is 0, 0 used, 1 more asked for" in refusal
    assert "tenants update" in refusal
    said = registry.ok("tenants", "update", "small", "--max-adapters", "default")
    assert "max_bytes 2.0 MiB" in said
    registry.ok(*push)
    table = registry.ok("tenants", "show", "small").splitlines()
    assert [line.split()[:2] for line in table if line.startswith("adapters")] == [
        ["adapters", "1"]
    ]
    assert "max_bytes 2.0 MiB" in registry.ok("tenants", "list")
    for limit in ("-1", "many", "2MB"):
        assert "is not a limit" in registry.refused(
            "tenants", "update", "small", "--max-rank", limit
        )
    assert "TENANT_NOT_EMPTY" in registry.refused("tenants", "delete", "small", "-y")


def test_serving_limits_by_command(registry: Registry) -> None:
    created = registry.ok("tenants", "create", "busy", "--weight", "2.5")
    assert created.strip() == "created tenants/busy"
    limits = ("--max-concurrent-requests", "0", "--max-tokens-per-minute", "100000")
    said = registry.ok("tenants", "update", "busy", *limits)
    assert "weight 2.5, max_concurrent_requests 0, max_tokens_per_minute 100000" in said
    said = registry.ok("tenants", "update", "busy", "--max-concurrent-requests", "default")
    assert "max_concurrent_requests" not in said
    shown = registry.json("tenants", "show", "busy")
    assert shown["serving"] == {"weight": 2.5, "max_tokens_per_minute": 100000}
    assert "tokens per minute    100000" in registry.ok("tenants", "show", "busy")
    for option, value in (("--weight", "much"), ("--max-requests-per-minute", "2KiB")):
        assert value in registry.refused("tenants", "update", "busy", option, value)
    assert "tenant.serving.weight" in registry.refused("tenants", "update", "busy", "--weight", "0")


def test_the_audit_trail_by_command(registry: Registry) -> None:
    registry.ok("tenants", "create", "traced", "--display-name", "Traced")
    registry.ok("tenants", "update", "traced", "--display-name", "Traced again")
    table = registry.ok("audit", "--resource", "tenants/traced", "--since", "1h")
    assert "display_name: Traced → Traced again" in table
    events = registry.json("audit", "--action", "tenants.*", "--principal", "platform/admin")
    assert {event["action"] for event in events} == {"tenants.create", "tenants.update"}
    assert len(registry.json("audit", "--limit", "2")) == 2
    assert registry.json("audit", "--until", "2020-01-01") == []
    assert "neither" in registry.refused("audit", "--since", "yesterday")
    assert "outcome" in registry.refused("audit", "--outcome", "maybe")


async def test_the_asynchronous_client_does_the_same(registry: Registry) -> None:
    async with AsyncAdminClient(registry.address, registry.key) as admin:
        adapter = await admin.create_adapter("globex/bot", "tiny", request_id="r1")
        assert await admin.create_adapter("globex/bot", "tiny", request_id="r1") == adapter
        await admin.push(registry.adapters[1], "globex/bot")
        updated = await admin.update_adapter("globex/bot", description="d")
        with pytest.raises(errors.AbortedError):
            await admin.update_adapter("globex/bot", description="e", etag=adapter.etag)
        await admin.delete_version("globex/bot@1")
        assert (await admin.undelete_version("globex/bot@1")).version == 1
        await admin.delete_adapter("globex/bot")
        await admin.purge_adapter("globex/bot")
        began = datetime.now(UTC) - timedelta(minutes=5)
        events = await admin.list_audit_events(
            resource_prefix="tenants/globex/", start_time=began, limit=3
        )
        assert [event.action for event in events] == [
            "adapters.purge",
            "adapters.delete",
            "versions.undelete",
        ]
        assert updated.description == "d"
        tenant = await admin.update_tenant("globex", quota={"max_rank": 8}, serving={"weight": 3})
        assert (tenant.quota.max_rank, tenant.serving.weight) == (8, 3)
        assert (await admin.get_tenant("globex")).usage.adapters == 0
