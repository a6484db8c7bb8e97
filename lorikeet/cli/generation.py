"""`lorikeet generate` and `lorikeet chat`."""

import sys
from typing import Annotated, Any, cast

import typer

from lorikeet.cli.output import JsonOption, print_json, stdout
from lorikeet.cli.settings import Settings
from lorikeet.client import Client
from lorikeet.generation import Completion, Sampling
from lorikeet.streams import GenerationStream

AdapterOption = Annotated[
    str, typer.Option("--adapter", "-a", help="`math`, `math@3`, `acme/math`; none: the base.")
]
MaxTokens = Annotated[int, typer.Option("--max-tokens", "-n", help="At most so many tokens.")]
Temperature = Annotated[float | None, typer.Option(help="0 is greedy.")]
TopP = Annotated[float | None, typer.Option("--top-p", help="In (0, 1].")]
TopK = Annotated[int | None, typer.Option("--top-k", help="0 is every token.")]
Seed = Annotated[int | None, typer.Option(help="For the same text twice.")]
Stop = Annotated[list[str] | None, typer.Option(help="A string that ends the text.")]


def generate(
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(help="The text to go on from; `-` reads stdin.")],
    adapter: AdapterOption = "",
    max_tokens: MaxTokens = 256,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    seed: Seed = None,
    stop: Stop = None,
    as_json: JsonOption = False,
) -> None:
    """Completes a text, token by token."""
    text = sys.stdin.read() if prompt == "-" else prompt
    sampling = _sampling(max_tokens, temperature, top_p, top_k, seed, stop)
    with Settings.of(context).client() as client:
        _finish(client.generate_stream(text, adapter, **sampling), as_json)


def chat(
    context: typer.Context,
    message: Annotated[
        str | None, typer.Argument(help="One question; without it, a conversation.")
    ] = None,
    adapter: AdapterOption = "",
    system: Annotated[str, typer.Option(help="The system message.")] = "",
    max_tokens: MaxTokens = 256,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    seed: Seed = None,
    stop: Stop = None,
    as_json: JsonOption = False,
) -> None:
    """Asks a question, or talks: an empty line or Ctrl-D ends the conversation."""
    sampling = _sampling(max_tokens, temperature, top_p, top_k, seed, stop)
    messages = [{"role": "system", "content": system}] if system else []
    with Settings.of(context).client() as client:
        if message is None:
            _converse(client, messages, adapter, sampling, as_json)
        else:
            messages.append({"role": "user", "content": message})
            _finish(client.chat_stream(messages, adapter, **sampling), as_json)


def _converse(
    client: Client,
    messages: list[dict[str, str]],
    adapter: str,
    sampling: Sampling,
    as_json: bool,
) -> None:
    """Turns until the user has nothing to say; each turn is sent with all before it."""
    while said := _read_line(adapter or "base"):
        messages.append({"role": "user", "content": said})
        completion = _finish(client.chat_stream(messages, adapter, **sampling), as_json)
        messages.append({"role": "assistant", "content": completion.text})


def _read_line(whom: str) -> str:
    try:
        return input(f"to {whom}> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""


def _finish(stream: GenerationStream, as_json: bool) -> Completion:
    """Prints a stream as it comes, or its completion as JSON; Ctrl-C cancels it on the server."""
    with stream:
        if not as_json:
            _print_text(stream)
        completion = stream.result()
    if as_json:
        print_json(completion)
    elif completion.finish_reason == "length":
        stdout().print(f"(cut at {completion.usage.completion_tokens} tokens)", style="dim")
    return completion


def _print_text(stream: GenerationStream) -> None:
    console = stdout()
    for chunk in stream:
        console.print(chunk.text, end="", markup=False, soft_wrap=True)
        console.file.flush()
    console.print()


def _sampling(
    max_tokens: int,
    temperature: float | None,
    top_p: float | None,
    top_k: int | None,
    seed: int | None,
    stop: list[str] | None,
) -> Sampling:
    """Only what was asked for, so that the adapter's own defaults hold for the rest."""
    settings: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "seed": seed,
        "stop": stop or None,
    }
    asked = {name: value for name, value in settings.items() if value is not None}
    return cast("Sampling", asked)
