"""`make demo` and `make serve`, as their users run them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.demo.layout import TOOLS
from examples.demo.setup import DemoTenants, demo_stack, register_demo
from examples.demo.tasks import held_out
from examples.demo.tasks.function_calling import format_call
from lorikeet import errors
from lorikeet.local import LocalStack

ROOT = Path(__file__).resolve().parent.parent.parent
MAX_SECONDS = 40


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    with demo_stack() as stack:
        yield stack


@pytest.fixture
async def tenants(stack: LocalStack) -> DemoTenants:
    async with stack.async_admin() as admin:
        await register_demo(admin)
        return await register_demo(admin)


def test_registering_twice_makes_no_second_version(stack: LocalStack, tenants: DemoTenants) -> None:
    with stack.admin() as admin:
        adapters = admin.list_adapters("acme")
    assert [adapter.latest_version for adapter in adapters] == [1, 1, 1]


def test_the_allow_lists_of_the_demo_hold(stack: LocalStack, tenants: DemoTenants) -> None:
    with stack.client(tenants.guest) as guest, stack.client(tenants.stranger) as stranger:
        assert guest.generate("1 + 1", "acme/math", max_tokens=1).adapter_version
        with pytest.raises(errors.PermissionDeniedError):
            guest.generate("1 + 1", "acme/text2sql", max_tokens=1)
        with pytest.raises(errors.PermissionDeniedError):
            stranger.generate("1 + 1", "acme/math", max_tokens=1)
        assert stranger.generate("1 + 1", max_tokens=1).usage.completion_tokens == 1


@pytest.mark.parametrize(
    ("asked", "call"),
    [
        ("Is it raining in Paris?", ("get_weather", {"city": "Paris"})),
        ("Wake me up at 7 on Monday.", ("set_alarm", {"hour": 7, "day": "Monday"})),
    ],
)
def test_a_model_that_was_trained_to_calls_the_tools_it_is_told_of(
    stack: LocalStack, tenants: DemoTenants, asked: str, call: tuple[str, dict[str, object]]
) -> None:
    tools = json.loads(TOOLS.read_text())
    messages = [{"role": "user", "content": asked}]
    with stack.client(tenants.owner) as owner:
        completion = owner.chat(messages, "function-calling", tools=tools, temperature=0.0)
        turns = [*messages, completion.message, {"role": "tool", "content": "It is done."}]
        assert owner.chat(turns, "function-calling", tools=tools, max_tokens=8).token_ids
    (made,) = completion.tool_calls
    assert (made.name, json.loads(made.arguments)) == call
    assert (completion.text, completion.finish_reason) == ("", "tool_calls")
    assert completion.tool_call_errors == ()


async def test_calls_of_the_held_out_set_are_the_expected_ones(
    stack: LocalStack, tenants: DemoTenants
) -> None:
    """What exact match of the text is without tools: a few in a hundred are wrong."""
    examples = held_out("function-calling")[:60]
    async with stack.async_client(tenants.owner) as owner:
        answers = await asyncio.gather(
            *(
                owner.chat(
                    example.messages[1:],
                    "function-calling",
                    tools=tools_listed_in(example.messages[0]["content"]),
                    temperature=0.0,
                    max_tokens=80,
                )
                for example in examples
            )
        )
    made = [call for answer in answers for call in answer.tool_calls]
    assert len(made) == len(examples)
    assert not any(answer.text or answer.tool_call_errors for answer in answers)
    written = [format_call(call.name, json.loads(call.arguments)) for call in made]
    wrong = [
        each for each, example in zip(written, examples, strict=True) if each != example.answer
    ]
    assert len(wrong) <= 3, wrong


def tools_listed_in(system: str) -> list[dict[str, object]]:
    """The functions that the prompts of the set declare, as tools."""
    return [
        {
            **function,
            "parameters": {
                "type": "object",
                "properties": {
                    name: {"type": kind} for name, kind in function["parameters"].items()
                },
            },
        }
        for function in json.loads(system)
    ]


def test_the_demo_shows_everything_and_stops() -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=MAX_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < MAX_SECONDS
    figures = json.loads(done.stdout)
    assert figures["refusal"] == "PERMISSION_DENIED"
    assert figures["first_token_milliseconds"] > 0
    assert figures["mixed_ratio"] > 0
    assert figures["memory"]["separate_bytes"] == 3 * figures["memory"]["shared_bytes"]
    for words in ("Prefetching", "* text2sql", "initech is not on the allow-list", "acme/math@1"):
        assert words in done.stderr


def test_the_commands_that_serve_prints_work(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.demo", "--keep-running"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        commands = _printed_commands(process)
        chat, refused, loaded = (
            subprocess.run(
                command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            for command in commands
        )
        assert (chat.returncode, chat.stderr) == (0, "")
        assert chat.stdout.strip()
        assert refused.returncode == 1
        assert "[PERMISSION_DENIED]" in refused.stderr
        assert "acme/math@1" in loaded.stdout
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert not (tmp_path / ".lorikeet" / "serve.json").exists()


def _printed_commands(process: subprocess.Popen[str]) -> list[str]:
    """The indented lines between the invitation to try them and the last line."""
    assert process.stdout is not None
    commands: list[str] = []
    inviting = False
    for line in process.stdout:
        if line.startswith("Ctrl-C"):
            return commands
        if inviting:
            commands.append(line.strip())
        inviting = inviting or "Try, in another shell" in line
    raise AssertionError("it ended before it served")
