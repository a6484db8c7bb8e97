"""Generations: what is sent, what comes back, what ends them."""

import asyncio
import math
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lorikeet import AsyncClient, AsyncGenerationStream, Client, Sampling, ToolCall, errors
from lorikeet.connection import InsecureTargetError
from lorikeet.rpc.errors import FieldViolation
from protos import inference_pb2 as pb
from tests.lorikeet.fakes import DIGEST, VERSION, FakeServer


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    with Client(server.address, "secret", tenant="acme") as client:
        yield client


def test_generate_returns_the_whole_completion(server: FakeServer, client: Client) -> None:
    completion = client.generate("Say hello", adapter="math@3", max_tokens=5, stop="\n")
    assert completion.text == "Hello world"
    assert completion.token_ids == (0, 1, 2)
    assert completion.finish_reason == "stop"
    assert completion.usage.cached_tokens == 2
    assert (completion.adapter_version, completion.digest) == (VERSION, DIGEST)


def test_requests_carry_the_key_the_tenant_and_only_what_was_asked(
    server: FakeServer, client: Client
) -> None:
    client.generate("Say hello", adapter="math", temperature=0.0, stop="\n")
    (request,) = server.inference.requests
    assert server.inference.metadata["authorization"] == "Bearer secret"
    assert (request.tenant, request.adapter, request.prompt) == (
        "tenants/acme",
        "math",
        "Say hello",
    )
    assert request.sampling.HasField("temperature")
    assert not request.sampling.HasField("max_tokens")
    assert list(request.sampling.stop) == ["\n"]


def test_every_sampling_setting_is_sent_as_it_is(server: FakeServer, client: Client) -> None:
    asked: Sampling = {
        "max_tokens": 5,
        "min_tokens": 2,
        "temperature": 0.5,
        "top_p": 0.25,
        "top_k": 3,
        "min_p": 0.125,
        "seed": 2**64 - 1,
        "stop_token_ids": [4],
        "ignore_eos": True,
        "include_stop_str_in_output": True,
        "repetition_penalty": 1.5,
        "presence_penalty": -0.5,
        "frequency_penalty": 0.75,
        "logit_bias": {5: -100.0, 6: 2.5},
        "logprobs": 0,
        "prompt_logprobs": 2,
        "n": 3,
    }
    assert {*asked, "stop"} == {*pb.SamplingParams.DESCRIPTOR.fields_by_name}
    assert {*asked, "stop"} == Sampling.__annotations__.keys()
    client.generate("Say hello", **asked)
    (request,) = server.inference.requests
    sent = {name: getattr(request.sampling, name) for name in asked}
    sent |= {"stop_token_ids": list(sent["stop_token_ids"]), "logit_bias": dict(sent["logit_bias"])}
    assert sent == asked


ADD = {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}
CALL = pb.ToolCall(id="c1", name="add", arguments='{"a": 1}')


def test_tools_and_their_calls_go_both_ways(server: FakeServer, client: Client) -> None:
    server.inference.tool_calls = [CALL]
    server.inference.tool_call_error = "it has no name"
    tools = [ADD, {"type": "function", "function": {"name": "now"}}]
    asked = [{"role": "user", "content": "1+1?"}]
    completion = client.chat(asked, "math", tools=tools, tool_choice="auto", priority=-3)
    (request,) = server.inference.requests
    assert [tool.name for tool in request.tools] == ["add", "now"]
    assert request.tools[0].parameters["type"] == "object"
    assert (request.tool_choice, request.priority) == ("auto", -3)
    assert completion.tool_calls == (ToolCall("c1", "add", '{"a": 1}'),)
    assert completion.tool_call_errors == ("it has no name",)
    assert (completion.finish_reason, completion.alias) == ("tool_calls", "latest")
    result = {"role": "tool", "content": "2", "tool_call_id": "c1"}
    client.chat([*asked, completion.message, result], "math", tools=tools)
    turns = server.inference.requests[1].messages
    assert list(turns[1].tool_calls) == [CALL]
    assert (turns[2].role, turns[2].tool_call_id) == ("tool", "c1")


@pytest.mark.parametrize(
    "asked",
    [
        {"messages": [{"role": "user", "content": "x", "name": "me"}]},
        {"messages": [], "tools": [{**ADD, "strict": True}]},
        {"messages": [], "temperatur": 1},
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(client: Client, asked: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"name|strict|temperatur"):
        client.chat(**asked)


def test_several_completions_are_put_together_each_by_itself(client: Client) -> None:
    stream = client.generate_stream("Say hello", n=3)
    assert [chunk.index for chunk in stream] == [0, 1, 2] * 3
    completion = stream.completion
    assert completion is not None
    assert [choice.text for choice in completion.choices] == [
        "Hello world",
        "Hello' wor'ld'",
        "Hello'' wor''ld''",
    ]
    assert [choice.index for choice in completion.others] == [1, 2]
    assert [choice.finish_reason for choice in completion.choices] == ["stop", "length", "length"]
    assert completion.token_ids == completion.others[0].token_ids == (0, 1, 2)


async def test_logprobs_come_with_chunks_and_completion(server: FakeServer) -> None:
    async with AsyncClient(server.address, "secret") as client:
        stream = client.generate_stream("Say hello", logprobs=1, prompt_logprobs=2, n=2)
        chunks = [chunk async for chunk in stream]
        completion = await stream.result()
    (of_prompt,) = completion.prompt_logprobs
    assert chunks[0].prompt_logprobs == (of_prompt,)
    assert (of_prompt.token_id, of_prompt.rank) == (7, 2)
    assert [token_id for token_id, _ in of_prompt.top] == [90, 91]
    for choice in completion.choices:
        assert [each.token_id for each in choice.logprobs] == [0, 1, 2]
        assert choice.logprobs[0].logprob == pytest.approx(math.log(0.25))
        ((likeliest, logprob),) = choice.logprobs[0].top
        assert likeliest == 90
        assert logprob == pytest.approx(math.log(0.5))
    assert all(len(chunk.logprobs) == len(chunk.token_ids) for chunk in chunks)


def test_tokens_have_texts(client: Client) -> None:
    assert client.token_texts([5, 6]) == ["<5>", "<6>"]
    assert client.detokenize([5, 6]) == "<5><6>"


def test_token_ids_are_a_prompt_too(server: FakeServer, client: Client) -> None:
    client.generate([5, 6], tenant="tenants/globex")
    (request,) = server.inference.requests
    assert list(request.prompt_token_ids.ids) == [5, 6]
    assert request.tenant == "tenants/globex"


def test_chat_sends_the_conversation(server: FakeServer, client: Client) -> None:
    client.chat([{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}])
    (request,) = server.inference.requests
    assert [(message.role, message.content) for message in request.messages] == [
        ("system", "Be brief"),
        ("user", "Hi"),
    ]


def test_a_stream_knows_its_start_and_its_completion(client: Client) -> None:
    with client.generate_stream("Say hello") as stream:
        first = next(stream)
        assert first.text == "Hello"
        assert stream.start is not None
        assert stream.start.digest == DIGEST
        assert stream.completion is None
        assert [chunk.text for chunk in stream] == [" wor", "ld"]
    assert stream.completion is not None
    assert stream.completion.text == "Hello world"


def test_closing_a_stream_cancels_the_request(server: FakeServer, client: Client) -> None:
    server.inference.endless = True
    with client.chat_stream([{"role": "user", "content": "Hi"}]) as stream:
        next(stream)
        assert not server.inference.cancelled.is_set()
    assert server.inference.cancelled.wait(2)
    assert list(stream) == []


def test_a_failed_stream_raises_the_typed_error_with_its_details(
    server: FakeServer, client: Client
) -> None:
    server.inference.error = errors.ResourceExhaustedError(
        "out of pages",
        reason="OUT_OF_PAGES",
        metadata={"pages": "7"},
        violations=[FieldViolation("max_tokens", "too many")],
        retry_after=1.5,
    )
    with pytest.raises(errors.ResourceExhaustedError, match="out of pages") as caught:
        client.generate("Say hello")
    assert caught.value.reason == "OUT_OF_PAGES"
    assert caught.value.metadata == {"pages": "7"}
    assert caught.value.violations[0].field == "max_tokens"
    assert caught.value.retry_after == 1.5


def test_a_stream_without_an_end_is_an_error(server: FakeServer, client: Client) -> None:
    server.inference.truncated = True
    with pytest.raises(errors.DataLossError):
        client.generate("Say hello")


def test_a_deadline_is_a_typed_error(server: FakeServer, client: Client) -> None:
    server.inference.endless = True
    with pytest.raises(errors.DeadlineExceededError):
        client.generate("Say hello", timeout=0.2)


def test_idempotent_calls_are_retried_while_unavailable(server: FakeServer, client: Client) -> None:
    server.inference.info_failures = 2
    assert client.server_info().base_model == "baseModels/demo"
    assert server.inference.info_calls == 3


def test_prefetch_yields_progress(client: Client) -> None:
    progress = list(client.prefetch(["math", "text2sql"]))
    assert [item.adapter for item in progress if item.done] == ["math", "text2sql"]
    assert progress[0].tier == pb.TIER_DEVICE


def test_a_server_that_never_answers_is_unavailable_within_five_seconds() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        began = time.monotonic()
        with Client(address, "secret") as client, pytest.raises(errors.UnavailableError):
            client.generate("Say hello")
        assert time.monotonic() - began < 5


def test_keys_do_not_cross_a_network_in_plaintext() -> None:
    with pytest.raises(InsecureTargetError):
        Client("example.com:50052", "secret")
    Client("example.com:50052", "secret", insecure=True).close()


async def test_async_chat_returns_the_same_completion(server: FakeServer) -> None:
    async with AsyncClient(server.address, api_key="secret") as client:
        messages = [{"role": "user", "content": "Hi"}]
        completion = await client.chat(messages, adapter="math", max_tokens=96, temperature=0.0)
        chunks = [chunk.text async for chunk in client.chat_stream(messages, adapter="math")]
        assert await client.tokenize("Hi", tenant="acme") == [1, 2, 3]
        progress = [item async for item in client.prefetch(["math"])]
    assert completion.text == "".join(chunks) == "Hello world"
    assert progress[-1].done


async def test_closing_an_async_stream_cancels_the_request(server: FakeServer) -> None:
    server.inference.endless = True
    async with AsyncClient(server.address, "secret") as client:
        async with client.generate_stream("Hi") as stream:
            assert (await anext(stream)).text == "Hello"
        assert server.inference.cancelled.wait(2)
        assert [chunk async for chunk in stream] == []


async def test_a_reader_sees_the_end_of_a_stream_that_another_task_closes(
    server: FakeServer,
) -> None:
    server.inference.endless = True
    async with AsyncClient(server.address, "secret") as client:
        stream = client.generate_stream("Hi")
        await anext(stream)
        reading = asyncio.create_task(_drain(stream))
        await asyncio.sleep(0.05)
        await stream.close()
        assert await asyncio.wait_for(reading, 2) == [" wor", "ld"]


async def test_closing_the_client_ends_its_streams_with_an_error(server: FakeServer) -> None:
    server.inference.endless = True
    client = AsyncClient(server.address, "secret")
    stream = client.generate_stream("Hi")
    await anext(stream)
    reading = asyncio.create_task(_drain(stream))
    await asyncio.sleep(0.05)
    await client.close()
    with pytest.raises(errors.CancelledByPeerError):
        await asyncio.wait_for(reading, 2)


async def test_cancelling_a_task_cancels_its_request(server: FakeServer) -> None:
    server.inference.endless = True
    async with AsyncClient(server.address, "secret") as client:
        reading = asyncio.create_task(client.generate("Hi"))
        await asyncio.sleep(0.1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert server.inference.cancelled.wait(2)


async def _drain(stream: AsyncGenerationStream) -> list[str]:
    return [chunk.text async for chunk in stream]


async def test_async_failures_are_typed(server: FakeServer) -> None:
    server.inference.error = errors.PermissionDeniedError("no", reason="PERMISSION_DENIED")
    async with AsyncClient(server.address, "secret") as client:
        with pytest.raises(errors.PermissionDeniedError):
            await client.generate("Hi")
