"""`python -O` drops assertions: none of the guards may be one."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from protos import registry_pb2 as pb
from tests.registry.issuer import AUDIENCE, ISSUER, Issuer
from tests.registry.process import ROOT, Process
from tests.registry.support import (
    DENIED,
    PUBLISH,
    USE,
    WHO,
    Client,
    failure,
    grants,
    make_base_model,
    make_key,
    make_registered,
    make_tenant,
)


async def check_guards(channel: grpc.aio.Channel, admin_key: str, issuer: Issuer) -> None:
    admin = Client(channel, admin_key)
    for tenant in ("acme", "globex"):
        await make_tenant(admin, tenant)
    await make_base_model(admin)
    adapter = await make_registered(admin, "acme", "bot")
    granted = grants((USE, "tenants/globex"), (PUBLISH, "tenants/globex"))
    stranger = Client(channel, await make_key(admin, "globex", "user", granted))
    for method, request in (
        ("GetAdapter", pb.GetAdapterRequest(name=adapter)),
        ("DeleteAdapter", pb.DeleteAdapterRequest(name=adapter)),
        ("ResolveAdapter", pb.ResolveAdapterRequest(tenant="tenants/acme", name=adapter)),
        ("ResolveAdapter", pb.ResolveAdapterRequest(tenant="tenants/globex", name=adapter)),
        ("StartUpload", pb.StartUploadRequest(adapter=adapter)),
        ("ListAuditEvents", pb.ListAuditEventsRequest(resource_prefix=adapter)),
        ("CreateTenant", pb.CreateTenantRequest(tenant_id="mine")),
        ("IdentifyCaller", pb.IdentifyCallerRequest(api_key=admin_key)),
    ):
        assert (await failure(stranger, method, request)).code == DENIED, method
    expired = issuer.token("k", "bob", tenant="acme", exp=1)
    forged = issuer.token("k", "bob", tenant="acme", key=Issuer().add("other", elliptic=True))
    for token in ("", "lk_0_0", admin_key[:-1], expired, forged):
        refused = await failure(Client(channel, token), "IdentifyCaller", WHO)
        assert refused.code == grpc.StatusCode.UNAUTHENTICATED
    good = Client(channel, issuer.token("k", "bob", tenant="acme"))
    assert (await good("IdentifyCaller", WHO)).tenant == "tenants/acme"


async def test_guards_hold_without_assertions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    issuer = Issuer()
    issuer.add("k", elliptic=True)
    issuer.write(tmp_path / "keys.json")
    arguments = [f"--jwt-issuer={ISSUER}", f"--jwt-audience={AUDIENCE}"]
    arguments += [f"--jwt-jwks={tmp_path / 'keys.json'}", "--jwt-tenant-claim=tenant"]
    process = Process(tmp_path / "data", *arguments)
    try:
        address = await asyncio.to_thread(process.wait_ready)
        key = json.loads((tmp_path / "data" / "credentials.json").read_text())["admin"]
        async with grpc.aio.insecure_channel(address) as channel:
            await check_guards(channel, key, issuer)
    finally:
        process.stop(signal.SIGTERM)


def test_plaintext_is_refused_without_assertions() -> None:
    program = "from lorikeet.rpc.server import check_binding as c; c('0.0.0.0:1', insecure=False)"
    ended = subprocess.run(
        [sys.executable, "-O", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "without TLS" in ended.stderr
