"""`lorikeet bench`: what it asks of the service, and what it says."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lorikeet.cli import app
from lorikeet.rpc.errors import ResourceExhaustedError
from lorikeet.state import ServeState
from tests.lorikeet.fakes import FakeServer


@pytest.fixture
def serving(server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    monkeypatch.chdir(tmp_path)
    ServeState(server.address, server.address, "admin-key", "acme", {"acme": "acme-key"}).write()
    return server


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["bench", *arguments])


def test_it_asks_what_was_planned_and_tells_what_was_measured(serving: FakeServer) -> None:
    result = bench(
        *("--adapters", "math,sql", "--workload", "distinct", "--requests", "6"),
        *("--prompt-tokens", "5", "--output-tokens", "7", "--warmup", "2", "--json"),
        *("--output", "result.json"),
    )
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told == json.loads(Path("result.json").read_text())
    figures = told["report"]["all"]
    assert (figures["num_requests"], figures["num_failed"]) == (6, 0)
    assert {name: each["num_requests"] for name, each in told["report"]["by_adapter"].items()} == {
        "math": 3,
        "sql": 3,
    }
    asked = [request for request in serving.inference.requests if hasattr(request, "sampling")]
    assert len(asked) == 8, "those before count for nothing"
    assert {len(request.prompt_token_ids.ids) for request in asked} == {5}
    assert {request.sampling.max_tokens for request in asked} == {7}
    assert all(request.sampling.ignore_eos for request in asked)
    assert len({tuple(request.prompt_token_ids.ids) for request in asked}) > 4


def test_an_open_loop_for_tenants_is_asked_by_the_administrator(serving: FakeServer) -> None:
    result = bench(
        *("--tenants", "small=1,large=9", "--rate", "200", "--duration", "0.5", "--warmup", "0"),
        *("--per-adapter", "--workload", "identical"),
    )
    assert result.exit_code == 0, result.output
    assert "100 requests in" in result.stdout
    tenants = [request.tenant for request in serving.inference.requests if request.tenant]
    assert 1 <= tenants.count("tenants/small") < tenants.count("tenants/large")
    assert serving.inference.metadata["authorization"] == "Bearer admin-key"
    for line in ("to the first token", "between tokens", "end to end", "late in sending"):
        assert line in result.stdout
    assert "large" in result.stdout
    assert "(base)" in result.stdout


def test_lengths_are_cut_to_the_model(serving: FakeServer) -> None:
    result = bench("--prompt-tokens", "990", "--output-tokens", "32", "--requests", "3")
    assert "3 requests were cut to what the model has room for" in result.stdout
    assert serving.inference.requests[-1].sampling.max_tokens == 10


def test_failures_are_counted_by_reason(serving: FakeServer) -> None:
    serving.inference.error = ResourceExhaustedError("full", reason="QUEUE_FULL")
    result = bench("--requests", "5", "--warmup", "0")
    assert result.exit_code == 1, "nothing succeeded"
    assert "5 failed" in result.stdout
    assert "QUEUE_FULL" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rate", "1", "--concurrency", "2"), "--rate or --concurrency"),
        (("--workload", "zip"), "'zip' is no popularity"),
        (("--prompt-tokens", "many"), "'many' is no length"),
        (("--tenants", "acme=much"), "give shares as numbers"),
        (("--tenants", "acme=0"), "above 0"),
        (("--adapters", "a", "--adapters-from-list"), "--adapters or"),
    ],
)
def test_what_makes_no_sense_is_refused(
    serving: FakeServer, arguments: tuple[str, ...], said: str
) -> None:
    result = bench(*arguments)
    assert result.exit_code == 1
    assert said in result.stderr
    assert not serving.inference.requests
