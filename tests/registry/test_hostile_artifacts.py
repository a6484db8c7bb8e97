"""No hostile artifact becomes a version, and the registry says of each what is wrong.

`LORIKEET_HOSTILE=10000 python -m pytest -s tests/registry/test_hostile_artifacts.py` is full size.
"""

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest
from rich.console import Console
from rich.table import Table

from protos import registry_pb2 as pb
from tests.registry.hostile.campaign import KINDS, Campaign, artifacts, run_campaign
from tests.registry.process import Process
from tests.registry.support import Client, make_base_model, make_registered

NUM_ARTIFACTS = int(os.environ.get("LORIKEET_HOSTILE", "300"))
MAX_RESIDENT_MIB = 300


def test_every_kind_has_a_reason_of_its_own() -> None:
    seen: dict[tuple[str | None, str], str] = {}
    for hostile in artifacts(600, seed=1):
        if hostile.kind is not None and hostile.kind.dtype is None:
            key = (hostile.kind.reason, _subject(hostile.fields[0]))
            assert seen.setdefault(key, hostile.kind.title) == hostile.kind.title
    assert set(seen.values()) == {kind.title for kind in KINDS if kind.dtype is None}


@pytest.mark.timeout(60 + NUM_ARTIFACTS / 3)
async def test_no_hostile_artifact_becomes_a_version(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    process = Process(data_dir)
    try:
        address = await asyncio.to_thread(process.wait_ready)
        key = json.loads((data_dir / "credentials.json").read_text())["admin"]
        async with grpc.aio.insecure_channel(address) as channel:
            admin = Client(channel, key)
            await make_base_model(admin)
            adapters = [await make_registered(admin, "platform", f"bot-{n}") for n in range(8)]
            campaign = await run_campaign(admin, adapters, NUM_ARTIFACTS, seed=0)
            versions = await _count_versions(admin, adapters)
        resident = _peak_resident_mib(process.popen.pid)
    finally:
        assert process.stop(signal.SIGTERM) == 0
    _print(campaign, resident)
    assert not campaign.problems, "\n".join(campaign.problems[:20])
    assert "Traceback" not in process.errors
    assert versions == len(campaign.accepted) == -(-NUM_ARTIFACTS // 20)
    assert resident < MAX_RESIDENT_MIB


async def _count_versions(admin: Client, adapters: Sequence[str]) -> int:
    """Versions in any state."""
    count = 0
    for adapter in adapters:
        request = pb.ListAdapterVersionsRequest(parent=adapter, page_size=1000, show_deleted=True)
        count += len((await admin("ListAdapterVersions", request)).versions)
    return count


def _peak_resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmHWM")


def _print(campaign: Campaign, resident: float) -> None:
    title = (
        f"{campaign.refused.total()} hostile artifacts refused, {len(campaign.accepted)} sound "
        f"accepted; the registry's peak was {resident:.0f} MiB"
    )
    table = Table("kind", "count", "code", "error", "violation", title=title)
    for kind in KINDS:
        for code, error, violation in sorted(campaign.reasons.get(kind.title, ())):
            table.add_row(kind.title, str(campaign.refused[kind.title]), code, error, violation)
    Console(width=150).print(table)


def _subject(field: str) -> str:
    """Which part of an artifact a field belongs to."""
    if field.startswith("files"):
        return "declaration"
    return "config" if field.startswith("adapter_config") else "weights"
