"""Traces over both services, as a real OTLP collector is sent them."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from lorikeet.client import AsyncClient
from lorikeet.rpc.errors import PermissionDeniedError
from protos import inference_pb2 as pb
from tests.inference.test_logs import lines_of
from tests.inference.world import User, running_world
from tests.otlp_receiver import OtlpReceiver, ReceivedSpan, otlp_receiver

SECRET = "what-nobody-may-trace"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
TRACED = (("traceparent", f"00-{TRACE_ID}-{CALLER}-01"),)
SERVER, CLIENT = 2, 3


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    """Both services are told of it as any program is; their spans are here once they stopped."""
    with otlp_receiver() as receiving:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiving.endpoint)
        yield receiving


async def generate(user: User, prompt: str = SECRET, **fields: Any) -> None:
    request = pb.GenerateRequest(prompt=prompt, **fields)
    call = user.call("Generate", request, metadata=TRACED)
    assert [response async for response in call][-1].HasField("complete")


def children(spans: list[ReceivedSpan], parent: ReceivedSpan) -> dict[str, ReceivedSpan]:
    return {
        span.name.rpartition("/")[2]: span for span in spans if span.parent_id == parent.span_id
    }


async def test_a_request_is_one_trace_over_both_services(
    tmp_path: Path, receiver: OtlpReceiver
) -> None:
    async with running_world(tmp_path) as world:
        key = await world.key("acme")
        version = await world.publish("acme", "math")
        await generate(User(world.channel, key), adapter="math", request_id="r-1")
    await world.stop_registry()
    spans = [span for span in receiver.spans if span.trace_id == TRACE_ID]
    (call,) = [span for span in spans if span.name.endswith("Inference/Generate")]
    assert (call.service, call.kind, call.parent_id) == ("lorikeet-inference", SERVER, CALLER)
    assert call.name == "lorikeet.inference.v1.Inference/Generate"
    assert call.attributes["rpc.grpc.status_code"] == 0
    assert call.attributes["lorikeet.request_id"] == "r-1"
    assert call.attributes["lorikeet.tenant"] == "acme"
    assert call.attributes["lorikeet.adapter_version"] == version.name
    assert call.attributes["lorikeet.digest"] == version.digest
    assert call.attributes["lorikeet.found_on"] == "remote"
    assert call.attributes["gen_ai.usage.output_tokens"] == 3
    below = children(spans, call)
    phases = [below[name] for name in ("admission", "prompt", "adapter", "prefill", "decode")]
    assert [phase.began for phase in phases] == sorted(phase.began for phase in phases)
    assert all(call.began - 1e6 <= p.began <= p.ended <= call.ended + 1e6 for p in phases)
    for method in ("ResolveAdapter", "ReadArtifact"):
        asked = below[method]
        assert (asked.service, asked.kind) == ("lorikeet-inference", CLIENT)
        (answered,) = children(spans, asked).values()
        assert (answered.service, answered.kind) == ("lorikeet-registry", SERVER)
        assert answered.attributes["rpc.method"] == method
        assert answered.attributes["rpc.grpc.status_code"] == 0


async def test_nothing_that_was_said_and_no_key_is_in_a_span(
    tmp_path: Path, receiver: OtlpReceiver
) -> None:
    async with running_world(tmp_path) as world:
        key = await world.key("acme")
        await generate(User(world.channel, key))
        await User(world.channel, key).ask(
            pb.ChatRequest(messages=[pb.ChatMessage(role="user", content=SECRET)])
        )
    await world.stop_registry()
    assert len(receiver.named("Inference/Generate")) == 1
    for secret in (SECRET, key, "Bearer"):
        assert secret.encode() not in receiver.raw


async def test_a_refusal_says_why_and_is_no_error_of_the_server(
    tmp_path: Path, receiver: OtlpReceiver
) -> None:
    async with running_world(tmp_path) as world:
        user = await world.user("acme")
        with pytest.raises(PermissionDeniedError):
            await user.generate("globex/nothing")
    await world.stop_registry()
    (call,) = receiver.named("Inference/Generate")
    assert call.attributes["rpc.grpc.status_code"] == 7
    assert call.attributes["error.type"] == "PERMISSION_DENIED"
    assert not call.is_error
    assert not any(span.name.startswith("grpc.") for span in receiver.spans)
    assert not receiver.named("WatchAdapters")


async def test_log_lines_name_the_trace(
    tmp_path: Path, receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_world(tmp_path) as world:
        user = await world.user("acme")
        with caplog.at_level(logging.INFO):
            await generate(user)
            await user.generate()
    first, second = [line for line in lines_of(caplog) if line["message"] == "request ended"]
    assert first["trace_id"] == TRACE_ID
    assert second["trace_id"] in {span.trace_id for span in receiver.spans} - {TRACE_ID}


async def test_without_an_endpoint_the_callers_trace_is_logged_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_world(tmp_path) as world:
        user = await world.user("acme")
        with caplog.at_level(logging.INFO):
            await generate(user)
    (line,) = [line for line in lines_of(caplog) if line["message"] == "request ended"]
    assert line["trace_id"] == TRACE_ID


async def test_the_sdk_passes_on_the_span_it_is_called_in(
    tmp_path: Path, receiver: OtlpReceiver
) -> None:
    async with running_world(tmp_path) as world:
        key = await world.key("acme")
        with TracerProvider(shutdown_on_exit=False).get_tracer("app").start_as_current_span("x"):
            expected = trace.get_current_span().get_span_context()
            async with AsyncClient(world.address, key) as client:
                await client.generate("hello")
        async with AsyncClient(world.address, key) as client:
            await client.generate("hello")
    inside, outside = receiver.named("Inference/Generate")
    assert inside.trace_id == trace.format_trace_id(expected.trace_id)
    assert inside.parent_id == trace.format_span_id(expected.span_id)
    assert outside.parent_id == ""


@pytest.mark.parametrize("service", ["registry_service", "inference_service"])
def test_a_service_that_cannot_make_traces_says_what_to_install(
    tmp_path: Path, service: str
) -> None:
    arguments = ["--data-dir", str(tmp_path), "--otlp-endpoint", "http://127.0.0.1:1"]
    if service == "inference_service":
        arguments += ["--model", str(tmp_path), "--base-model", "b", "--registry", "127.0.0.1:1"]
    script = (
        "import runpy, sys; sys.modules['opentelemetry'] = None\n"
        f"sys.argv = {[service, *arguments]}\n"
        f"runpy.run_module('{service}', run_name='__main__')"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.returncode in (1, 2)
    (line,) = ended.stderr.splitlines()
    assert "traces are configured, but opentelemetry" in line
    assert "pip install 'lorikeet[telemetry]'" in line


def test_nothing_is_imported_where_no_traces_are_wanted() -> None:
    script = (
        "import sys, registry_service.service\n"
        "from lorikeet.rpc.telemetry import open_tracing\n"
        "from lorikeet.client import Client\n"
        "assert open_tracing('x', None) is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=_without_endpoints())


def _without_endpoints() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
