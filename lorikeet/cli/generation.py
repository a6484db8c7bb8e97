"""`lorikeet generate` and `lorikeet chat`."""

import sys
from typing import Annotated

import typer

from lorikeet.cli.logprobs import print_logprobs
from lorikeet.cli.output import JsonOption, print_json, stdout
from lorikeet.cli.sampling import with_sampling
from lorikeet.cli.settings import Settings
from lorikeet.client import Client
from lorikeet.completion import Choice, Completion
from lorikeet.generation import Sampling
from lorikeet.streams import GenerationStream

AdapterOption = Annotated[
    str, typer.Option("--adapter", "-a", help="`math`, `math@3`, `acme/math`; none: the base.")
]


@with_sampling
def generate(
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(help="The text to go on from; `-` reads stdin.")],
    sampling: Sampling,
    adapter: AdapterOption = "",
    as_json: JsonOption = False,
) -> None:
    """Completes a text, token by token."""
    text = sys.stdin.read() if prompt == "-" else prompt
    with Settings.of(context).client() as client:
        _finish(client, client.generate_stream(text, adapter, **sampling), sampling, as_json)


@with_sampling
def chat(
    context: typer.Context,
    sampling: Sampling,
    message: Annotated[
        str | None, typer.Argument(help="One question; without it, a conversation.")
    ] = None,
    adapter: AdapterOption = "",
    system: Annotated[str, typer.Option(help="The system message.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Asks a question, or talks: an empty line or Ctrl-D ends the conversation."""
    messages = [{"role": "system", "content": system}] if system else []
    with Settings.of(context).client() as client:
        if message is None:
            _converse(client, messages, adapter, sampling, as_json)
        else:
            messages.append({"role": "user", "content": message})
            stream = client.chat_stream(messages, adapter, **sampling)
            _finish(client, stream, sampling, as_json)


def _converse(
    client: Client,
    messages: list[dict[str, str]],
    adapter: str,
    sampling: Sampling,
    as_json: bool,
) -> None:
    """Turns until the user has nothing to say; each turn is sent with all before it."""
    if sampling.get("n", 1) > 1:
        raise typer.BadParameter("a conversation goes on from one answer", param_hint="--n")
    while said := _read_line(adapter or "base"):
        messages.append({"role": "user", "content": said})
        stream = client.chat_stream(messages, adapter, **sampling)
        completion = _finish(client, stream, sampling, as_json)
        messages.append({"role": "assistant", "content": completion.text})


def _read_line(whom: str) -> str:
    try:
        return input(f"to {whom}> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""


def _finish(
    client: Client, stream: GenerationStream, sampling: Sampling, as_json: bool
) -> Completion:
    """Prints a stream as it comes, or its completion as JSON; Ctrl-C cancels it on the server.

    Of several completions the first is streamed, the others follow when all have ended.
    """
    with stream:
        if not as_json:
            _print_first(stream, is_one_of_many=sampling.get("n", 1) > 1)
        completion = stream.result()
    if as_json:
        print_json(completion)
        return completion
    _print_cut(completion)
    for choice in completion.others:
        stdout().print(f"[{choice.index}] {choice.text}", markup=False, soft_wrap=True)
        _print_cut(choice)
    print_logprobs(client, completion)
    return completion


def _print_first(stream: GenerationStream, *, is_one_of_many: bool) -> None:
    console = stdout()
    console.print("[0] " if is_one_of_many else "", end="", markup=False)
    for chunk in stream:
        if chunk.index == 0:
            console.print(chunk.text, end="", markup=False, soft_wrap=True)
            console.file.flush()
    console.print()


def _print_cut(choice: Choice) -> None:
    if choice.finish_reason == "length":
        stdout().print(f"(cut at {len(choice.token_ids)} tokens)", style="dim")
