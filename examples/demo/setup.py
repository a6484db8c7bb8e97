"""Registers the demo through the admin API: base model, tenants, adapters, allow-lists, keys."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from examples.demo.layout import (
    ADAPTER_NAMES,
    ADAPTERS_DIR,
    BASE_DIR,
    BASE_MODEL_NAME,
    BASE_MODEL_REVISION,
    CALLING_TEMPLATE,
)
from lorikeet import AsyncAdminClient
from lorikeet.cli.output import format_bytes
from lorikeet.local import LocalStack
from lorikeet.operations.upload import PeftDirectory
from lorikeet.rpc.digests import manifest_digest
from lorikeet.rpc.errors import AlreadyExistsError
from protos.registry_pb2 import AdapterProfile

BASE_MODEL_ID: Final = "demo-base"
OWNER: Final = "acme"
GUEST: Final = "globex"
STRANGER: Final = "initech"
SHARED_ADAPTER: Final = "math"

_MEMORY: Final = "64MiB"  # for the KV and the adapters of a model this small, plenty


@dataclass(frozen=True)
class DemoTenants:
    """API keys. `acme` owns every adapter, `globex` may use math, `initech` none."""

    keys: dict[str, str] = field(repr=False)

    @property
    def owner(self) -> str:
        return self.keys[OWNER]

    @property
    def guest(self) -> str:
        return self.keys[GUEST]

    @property
    def stranger(self) -> str:
        return self.keys[STRANGER]


def demo_stack(**options: Any) -> LocalStack:
    """A local stack that serves the demo's base model; `options` are LocalStack's."""
    return LocalStack(
        BASE_DIR,
        BASE_MODEL_ID,
        revision=BASE_MODEL_REVISION,
        source=BASE_MODEL_NAME,
        inference_args=["--memory", _MEMORY],
        **options,
    )


async def register_demo(
    admin: AsyncAdminClient, report: Callable[[str], None] = lambda line: None
) -> DemoTenants:
    """Creates what is missing, so it may run again; every run makes new keys."""
    await admin.register_base_model(
        BASE_MODEL_ID, BASE_DIR, source=BASE_MODEL_NAME, revision=BASE_MODEL_REVISION
    )
    report(f"base model {BASE_MODEL_ID} ({BASE_MODEL_NAME})")
    keys = {
        OWNER: await admin.ensure_tenant(OWNER, permissions=("adapters.use", "adapters.publish")),
        GUEST: await admin.ensure_tenant(GUEST),
        STRANGER: await admin.ensure_tenant(STRANGER),
    }
    report(f"tenants {', '.join(keys)}")
    for name in ADAPTER_NAMES:
        report(await _publish(admin, f"{OWNER}/{name}", ADAPTERS_DIR / name, _profile(name)))
    await admin.grant_access(f"{OWNER}/{SHARED_ADAPTER}", GUEST)
    report(f"allow-list of {OWNER}/{SHARED_ADAPTER}: {GUEST}")
    return DemoTenants(keys)


def _profile(adapter: str) -> AdapterProfile | None:
    """function-calling tells the model of tools as it was trained, and has its calls found."""
    if adapter != "function-calling":
        return None
    return AdapterProfile(
        chat_template=CALLING_TEMPLATE.read_text(encoding="utf-8"), tool_call_parser="glaive"
    )


async def _publish(
    admin: AsyncAdminClient, adapter: str, directory: Path, profile: AdapterProfile | None
) -> str:
    """Pushes the directory unless the newest version already holds the same bytes."""
    try:
        await admin.create_adapter(adapter, BASE_MODEL_ID, profile=profile)
    except AlreadyExistsError:
        digest = manifest_digest(PeftDirectory.read(directory).files)
        versions = await admin.list_versions(adapter)
        if versions and versions[0].digest == digest:
            return f"adapter {adapter}@{versions[0].version}, already there"
    version = await admin.push(directory, adapter, aliases=["stable"])
    return (
        f"adapter {adapter}@{version.version}, rank {version.rank},"
        f" {format_bytes(version.size_bytes)}, {version.digest[:19]}…"
    )
