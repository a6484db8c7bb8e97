"""Each failure of the layers between a client and a registry, on a really broken thing."""

import contextlib
import shutil
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lorikeet.doctor.inference import check_inference
from lorikeet.doctor.model import check_model
from lorikeet.doctor.naming import check_adapter
from lorikeet.doctor.services import Target, check_registry
from lorikeet.rpc.checklist import Checklist
from lorikeet.rpc.reachability import Endpoint, check_endpoint
from tests.certificates import Authority
from tests.doctor.conftest import DEMO_BASE, Served, finding, statuses


def examined(target: Target) -> Checklist:
    checklist = Checklist()
    check_registry(checklist, target)
    return checklist


def test_all_is_well(served: Served) -> None:
    checklist = examined(served.target)
    assert set(statuses(checklist).values()) == {"ok"}
    assert "tenants/platform/principals/admin" in finding(checklist, "registry.credential").detail
    assert "trusted" in finding(checklist, "registry.tls").detail


def test_what_listens_nowhere_is_refused(served: Served) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    checklist = examined(replace(served.target, address=address))
    assert "refuses" in finding(checklist, "registry.reach").detail
    assert finding(checklist, "registry.credential").status == "skipped"


def test_a_name_without_an_address(served: Served) -> None:
    checklist = examined(replace(served.target, address="no-such-host.invalid:1"))
    assert "no address" in finding(checklist, "registry.reach").detail


def test_another_authority_did_not_sign_it(served: Served, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger").cert
    found = finding(examined(replace(served.target, ca=stranger)), "registry.tls")
    assert (found.layer, found.status) == ("TLS", "failed")
    assert "unknown issuer" in found.detail
    namesake = Authority(tmp_path).cert
    found = finding(examined(replace(served.target, ca=namesake)), "registry.tls")
    assert "another authority of that name" in found.detail


def test_a_certificate_for_another_name(served: Served) -> None:
    port = served.target.address.rpartition(":")[2]
    checklist = examined(replace(served.target, address=f"127.1:{port}"))
    assert "for other names" in finding(checklist, "registry.tls").detail


def test_plaintext_where_tls_is_spoken(served: Served) -> None:
    checklist = examined(replace(served.target, ca=None))
    assert statuses(checklist)["registry.reach"] == "ok"
    assert "with or without TLS" in finding(checklist, "registry.health").advice


def test_a_wrong_key(served: Served) -> None:
    checklist = examined(replace(served.target, api_key="lk_wrong"))
    assert statuses(checklist)["registry.health"] == "ok"
    assert "not valid" in finding(checklist, "registry.credential").detail
    assert "lk_wrong" not in str(checklist.findings)


def test_no_inference_service_is_not_a_failure() -> None:
    checklist = Checklist()
    check_inference(checklist, Target(""))
    assert statuses(checklist) == {"inference.reach": "skipped"}


def model_findings(served: Served, directory: Path, base_model: str) -> Checklist:
    checklist = examined(served.target)
    check_model(checklist, directory, base_model, served.target)
    return checklist


def test_the_registered_model(served: Served, tmp_path: Path) -> None:
    checklist = model_findings(served, DEMO_BASE, "demo-base")
    assert statuses(checklist)["model.registered"] == "ok"
    unknown = finding(model_findings(served, DEMO_BASE, "other"), "model.registered")
    assert "is not registered" in unknown.detail

    copy = tmp_path / "model"
    shutil.copytree(DEMO_BASE, copy)
    config = (copy / "config.json").read_text()
    (copy / "config.json").write_text(config.replace('"rope_theta"', '"rope_theta_2"'))
    changed = finding(model_findings(served, copy, "demo-base"), "model.registered")
    assert "config digest" in changed.detail
    next(copy.glob("*.safetensors")).unlink()
    assert "safetensors" in finding(model_findings(served, copy, "demo-base"), "model.files").detail


def adapter_findings(served: Served, name: str, tenant: str) -> dict[str, str]:
    target = served.tenant(tenant)
    checklist = examined(target)
    check_adapter(checklist, name, target, Target(""))
    return statuses(checklist)


@pytest.mark.parametrize(
    ("name", "tenant", "failing"),
    [
        ("Math!", "acme", "adapter.syntax"),
        ("nothing", "acme", "adapter.use"),
        ("acme/math", "globex", "adapter.use"),
        ("math@stable", "acme", "adapter.version"),
        ("math@7", "acme", "adapter.version"),
    ],
)
def test_the_part_of_a_name_that_fails(
    served: Served, name: str, tenant: str, failing: str
) -> None:
    found = adapter_findings(served, name, tenant)
    assert [check for check, status in found.items() if status == "failed"] == [failing]


@contextlib.contextmanager
def tls_listener(authority: Authority, days: int = 1) -> Iterator[Endpoint]:
    """Speaks TLS with a certificate that ends in so many days, and nothing above TLS."""
    pair = authority.server(days=days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                context.wrap_socket(self.request, server_side=True).close()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Endpoint("127.0.0.1", server.server_address[1], True, authority.cert, ("h2",))
        server.shutdown()


def test_an_expired_certificate(tmp_path: Path) -> None:
    """Our services would not start with it."""
    checklist = Checklist()
    with tls_listener(Authority(tmp_path), days=-1) as endpoint:
        assert check_endpoint(checklist, "x", endpoint) == "x.tls"
    assert "has expired" in finding(checklist, "x.tls").detail
    assert "issue a new certificate" in finding(checklist, "x.tls").advice


def test_what_speaks_tls_and_not_http_2(tmp_path: Path) -> None:
    checklist = Checklist()
    with tls_listener(Authority(tmp_path)) as endpoint:
        check_endpoint(checklist, "x", endpoint)
        check_endpoint(checklist, "any", replace(endpoint, alpn=()))
    assert "not HTTP/2" in finding(checklist, "x.tls").detail
    assert finding(checklist, "any.tls").status == "ok"
