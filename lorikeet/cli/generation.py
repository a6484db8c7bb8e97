"""`lorikeet generate` and `lorikeet chat`."""

import sys
from typing import Annotated, Any, cast

import typer

from lorikeet.cli.adapter_names import AdapterOption
from lorikeet.cli.logprobs import print_logprobs
from lorikeet.cli.output import JsonOption, print_json, stdout
from lorikeet.cli.sampling import with_sampling
from lorikeet.cli.settings import Settings
from lorikeet.cli.tool_calls import (
    ToolChoiceOption,
    ToolsOption,
    as_text,
    print_tool_calls,
    read_tools,
)
from lorikeet.client import Client
from lorikeet.completion import Choice, Completion
from lorikeet.generation import Asked, AskedInChat, Sampling
from lorikeet.streams import GenerationStream

PriorityOption = Annotated[
    int, typer.Option(help="-1000 to 1000: of your waiting requests the lowest goes first.")
]
TimeoutOption = Annotated[
    float | None, typer.Option(min=0.0, help="Seconds; then the request is given up.")
]


@with_sampling
def generate(
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(help="The text to go on from; `-` reads stdin.")],
    sampling: Sampling,
    adapter: AdapterOption = "",
    priority: PriorityOption = 0,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Completes a text, token by token."""
    text = sys.stdin.read() if prompt == "-" else prompt
    asked = cast("Asked", {**sampling, "priority": priority, "timeout": timeout})
    with Settings.of(context).client() as client:
        _finish(client, client.generate_stream(text, adapter, **asked), asked, as_json)


@with_sampling
def chat(
    context: typer.Context,
    sampling: Sampling,
    message: Annotated[
        str | None, typer.Argument(help="One question; without it, a conversation.")
    ] = None,
    adapter: AdapterOption = "",
    system: Annotated[str, typer.Option(help="The system message.")] = "",
    tools: ToolsOption = None,
    tool_choice: ToolChoiceOption = "",
    priority: PriorityOption = 0,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Asks a question, or talks: an empty line or Ctrl-D ends the conversation."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    offered = {"tools": read_tools(tools), "tool_choice": tool_choice}
    asked = cast("AskedInChat", {**sampling, **offered, "priority": priority, "timeout": timeout})
    with Settings.of(context).client() as client:
        if message is None:
            _converse(client, messages, adapter, asked, as_json)
        else:
            messages.append({"role": "user", "content": message})
            _finish(client, client.chat_stream(messages, adapter, **asked), asked, as_json)


def _converse(
    client: Client,
    messages: list[dict[str, Any]],
    adapter: str,
    asked: AskedInChat,
    as_json: bool,
) -> None:
    """Turns until the user has nothing to say; each turn is sent with all before it.

    The user also says what the tools that the model calls give.
    """
    if asked.get("n", 1) > 1:
        raise typer.BadParameter("a conversation goes on from one answer", param_hint="--n")
    said = [{"role": "user", "content": _read_line(f"to {adapter or 'base'}")}]
    while all(turn["content"] for turn in said):
        messages += said
        stream = client.chat_stream(messages, adapter, **asked)
        completion = _finish(client, stream, asked, as_json)
        messages.append(completion.message)
        said = [
            {"role": "tool", "tool_call_id": call.id, "content": _read_line(as_text(call))}
            for call in completion.tool_calls
        ] or [{"role": "user", "content": _read_line(f"to {adapter or 'base'}")}]


def _read_line(prompt: str) -> str:
    try:
        return input(f"{prompt}> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""


def _finish(client: Client, stream: GenerationStream, asked: Asked, as_json: bool) -> Completion:
    """Prints a stream as it comes, or its completion as JSON; Ctrl-C cancels it on the server.

    Of several completions the first is streamed, the others follow when all have ended.
    """
    with stream:
        if not as_json:
            _print_first(stream, is_one_of_many=asked.get("n", 1) > 1)
        completion = stream.result()
    if as_json:
        print_json(completion)
        return completion
    _print_end(completion)
    for choice in completion.others:
        stdout().print(f"[{choice.index}] {choice.text}", markup=False, soft_wrap=True)
        _print_end(choice)
    print_logprobs(client, completion)
    return completion


def _print_first(stream: GenerationStream, *, is_one_of_many: bool) -> None:
    console = stdout()
    console.print("[0] " if is_one_of_many else "", end="", markup=False)
    is_line_open = is_one_of_many
    for chunk in stream:
        if chunk.index == 0:
            console.print(chunk.text, end="", markup=False, soft_wrap=True)
            console.file.flush()
            is_line_open = is_line_open or bool(chunk.text)
    if is_line_open:
        console.print()


def _print_end(choice: Choice) -> None:
    print_tool_calls(choice)
    if choice.finish_reason == "length":
        stdout().print(f"(cut at {len(choice.token_ids)} tokens)", style="dim")
