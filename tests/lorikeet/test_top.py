"""`lorikeet top`: what a frame shows, and that it fits."""

import io
import json

import pytest
from rich.console import Console

from lorikeet.cli.snapshots import Snapshot, take_snapshot
from lorikeet.cli.top_view import frame
from lorikeet.client import Client
from protos import inference_pb2 as pb
from tests.lorikeet.fakes import FakeServer
from tests.lorikeet.test_cli import run


def request(number: int, tokens: int, milliseconds: int = 2000) -> pb.RequestInfo:
    state = pb.REQUEST_STATE_RUNNING if tokens else pb.REQUEST_STATE_WAITING
    made = pb.RequestInfo(
        request_id=f"r-{number}",
        tenant=f"tenant-{number % 12}",
        adapter_version="" if number % 3 else "tenants/acme/adapters/math/versions/3",
        state=state,
        prompt_tokens=10,
        completion_tokens=tokens,
    )
    made.age.FromMilliseconds(milliseconds)
    if tokens:
        made.time_to_first_token.FromMilliseconds(1000)
    return made


def snapshot(num_requests: int, num_adapters: int = 0) -> Snapshot:
    requests = [request(number, tokens=number % 4) for number in range(num_requests)]
    adapters = [
        pb.LoadedAdapter(
            adapter_version=f"tenants/a-long-tenant-name/adapters/adapter-{n}/versions/{n}",
            tier=pb.TIER_DEVICE if n % 2 else pb.TIER_DISK,
            device_bytes=1 << 20,
            disk_bytes=1 << 21,
            rank=16,
            pinned=n == 1,
            running_requests=n,
        )
        for n in range(num_adapters)
    ]
    memory = pb.MemoryUse(
        page_bytes=32768,
        total_pages=1000,
        free_pages=100,
        kv_pages=500,
        adapter_pages=3,
        cached_pages=397,
    )
    server = pb.ServerInfo(base_model="baseModels/demo", device="cpu", memory=memory)
    return Snapshot(0.0, server, requests, adapters, [1.0] * num_requests)


def drawn(shown: Snapshot, height: int = 24, trouble: str = "") -> list[str]:
    """The lines of a frame on a terminal of 80 columns without colours."""
    console = Console(file=io.StringIO(), width=80, height=height, no_color=True)
    console.print(frame(shown, height, trouble))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("height", [24, 40])
@pytest.mark.parametrize("num_requests", [0, 1, 5, 300])
@pytest.mark.parametrize("num_adapters", [0, 3, 50])
def test_a_frame_fits_the_terminal(num_requests: int, num_adapters: int, height: int) -> None:
    lines = drawn(snapshot(num_requests, num_adapters), height, "it is away; trying again")
    assert len(lines) <= height
    assert max(map(len, lines)) <= 80


def test_what_does_not_fit_is_counted() -> None:
    lines = drawn(snapshot(300, 3))
    shown = sum("running" in line or "waiting" in line for line in lines[5:-8]) - 1
    assert f"and {300 - shown} more" in lines
    assert sum(line.startswith("tenant-") for line in lines) == 4
    assert any(line.startswith("(8 others)") for line in lines)


def test_pages_are_drawn_by_use_and_none_is_lost() -> None:
    bar, legend = drawn(snapshot(0))[1:3]
    assert bar == "pages  " + "█" * 20 + "▓" + "▒" * 16 + "░" * 3
    uses = "kv 500  adapter 3  cached 397  free 100"
    assert legend.strip() == f"{uses}  of 1000 x 32.0 KiB"


def test_what_hinders_the_service_is_said() -> None:
    shown = snapshot(0)
    shown.server.draining = True
    shown.server.num_warm_adapters, shown.server.num_warm_adapters_ready = 3, 2
    shown.server.registry_lease.FromSeconds(42)
    text = "\n".join(drawn(shown, trouble="the service is away; trying again"))
    for part in ("draining", "warm 2/3", "lease 42 s", "the service is away; trying again"):
        assert part in text


def test_rates_are_those_since_the_reading_before(server: FakeServer) -> None:
    with Client(server.address, "key") as client:
        first = take_snapshot(client, None)
        assert list(first.rates) == [pytest.approx(34 / 2), 0.0]  # since its first token
        assert list(take_snapshot(client, first).rates) == [0.0, 0.0]  # none came since


def test_once_prints_one_frame(serving: FakeServer) -> None:
    shown = run("top", "--once").stdout
    for part in ("demo", "acme/math@3", "running", "waiting", "17", "500 ms", "device 1"):
        assert part in shown


def test_json_is_one_line_a_reading(serving: FakeServer) -> None:
    (line,) = run("top", "--once", "--json").stdout.splitlines()
    reading = json.loads(line)
    assert reading["tokens_per_second"] == pytest.approx(17)
    assert [item["request_id"] for item in reading["requests"]] == ["r-1", "r-2"]
    assert reading["server"]["base_model"] == "baseModels/demo"


def test_everything_is_seen_unless_a_tenant_was_asked_for(serving: FakeServer) -> None:
    run("requests")
    assert serving.runtime.asked == ["Bearer admin-key", ""]
    run("--tenant", "acme", "requests")
    assert serving.runtime.asked == ["Bearer acme-key", ""]
    run("--tenant", "globex", "requests")
    assert serving.runtime.asked == ["Bearer admin-key", "tenants/globex"]
