"""What is logged: who, which adapter, how it ended; never what was said, never a key."""

import json
import logging
from typing import Any

import pytest

from lorikeet.rpc.errors import PermissionDeniedError
from lorikeet.rpc.logs import JsonFormatter
from protos import inference_pb2 as pb
from tests.inference.world import User, World

pytestmark = pytest.mark.asyncio(loop_scope="module")
SECRET = "what-nobody-may-log"


def lines_of(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(JsonFormatter().format(record)) for record in caplog.records]


async def test_a_request_is_one_line_without_its_prompt(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    key = await world.key("logged")
    version = await world.publish("logged", "math")
    user = User(world.channel, key)
    with caplog.at_level(logging.DEBUG):
        await user.generate("math", prompt=SECRET, request_id="r-1")
        messages = [pb.ChatMessage(role="user", content=SECRET)]
        await user.ask(pb.ChatRequest(messages=messages))
    lines = [line for line in lines_of(caplog) if line["message"] == "request ended"]
    assert [line["outcome"] for line in lines] == ["length", "length"]
    assert lines[0]["request_id"] == "r-1"
    assert lines[0]["tenant"] == "logged"
    assert lines[0]["principal"] == "tenants/logged/principals/user"
    assert lines[0]["adapter_version"] == version.name
    assert lines[0]["completion_tokens"] == 3
    assert lines[0]["first_token_ms"] <= lines[0]["total_ms"]
    written = json.dumps(lines_of(caplog))
    assert SECRET not in written
    assert key not in written


async def test_a_denial_is_logged_with_who_and_why(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    user = await world.user("refused")
    with caplog.at_level(logging.INFO), pytest.raises(PermissionDeniedError):
        await user.generate("logged/math", prompt=SECRET, request_id="r-2")
    (line,) = [line for line in lines_of(caplog) if line["message"] == "denied"]
    assert (line["level"], line["request_id"]) == ("warning", "r-2")
    assert line["principal"] == "tenants/refused/principals/user"
    assert line["detail"]["resource"] == "tenants/logged/adapters/math"
    assert SECRET not in json.dumps(lines_of(caplog))


async def test_exceptions_are_part_of_the_line() -> None:
    try:
        raise ValueError("boom")
    except ValueError as error:
        information = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("x", logging.ERROR, "", 0, "it broke", None, information)
    line = json.loads(JsonFormatter().format(record))
    assert line["message"] == "it broke"
    assert "boom" in line["exception"]
