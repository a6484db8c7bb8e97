"""A real registry that speaks TLS, and the checklist's findings by name."""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from lorikeet.admin import AdminClient
from lorikeet.doctor.services import Target
from lorikeet.rpc.checklist import Checklist, Finding
from tests.certificates import Authority
from tests.registry.process import Process


@dataclass(frozen=True)
class Served:
    """A registry with the base model of the demo and an adapter that has no version yet."""

    target: Target
    data_dir: Path
    authority: Authority

    def tenant(self, name: str) -> Target:
        """The same registry, called as a tenant."""
        with self.target.admin() as admin:
            return replace(self.target, api_key=admin.ensure_tenant(name))


DEMO_BASE = Path(__file__).resolve().parents[2] / "examples" / "demo" / "base"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("doctor")
    authority = Authority(directory)
    pair = authority.server()
    arguments = ["--tls-cert", str(pair.cert), "--tls-key", str(pair.key)]
    process = Process(directory / "data", *arguments)
    try:
        address = process.wait_ready()
        key = json.loads((directory / "data" / "credentials.json").read_text())["admin"]
        target = Target(address, key, ca=authority.cert)
        _fill(target.admin())
        yield Served(target, directory / "data", authority)
    finally:
        process.stop(signal.SIGTERM)


def _fill(admin: AdminClient) -> None:
    with admin:
        admin.register_base_model("demo-base", DEMO_BASE, source="lorikeet/demo", revision="r1")
        admin.ensure_tenant("acme")
        admin.create_adapter("acme/math", "demo-base")


def finding(checklist: Checklist, check: str) -> Finding:
    (found,) = [finding for finding in checklist.findings if finding.check == check]
    return found


def statuses(checklist: Checklist) -> dict[str, str]:
    return {finding.check: finding.status for finding in checklist.findings}
