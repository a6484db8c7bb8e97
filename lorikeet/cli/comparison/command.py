"""The command."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, cast

import typer

from lorikeet.cli.adapter_names import complete_adapter
from lorikeet.cli.comparison.answer import Answer
from lorikeet.cli.comparison.prompts import read_prompts
from lorikeet.cli.comparison.results import answer_writer
from lorikeet.cli.comparison.run import Comparison, answer_all
from lorikeet.cli.comparison.screen import screen_for
from lorikeet.cli.comparison.view import totals
from lorikeet.cli.failures import CommandError
from lorikeet.cli.generation import TimeoutOption
from lorikeet.cli.output import JsonOption, print_json, stdout
from lorikeet.cli.sampling import with_sampling
from lorikeet.cli.settings import Settings
from lorikeet.generation import Asked, Sampling


@with_sampling
def compare(
    context: typer.Context,
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="[PROMPT] ADAPTER...",
            help="The prompt (`-` reads stdin; none with --prompts), then `math`, `sql@stable`, …",
            autocompletion=complete_adapter,
        ),
    ],
    sampling: Sampling,
    base: Annotated[bool, typer.Option("--base/--no-base", help="The base model too.")] = True,
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", help='A prompt a line, or .jsonl objects with a "prompt".'),
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Prompts are a user's messages.")] = False,
    max_streams: Annotated[
        int, typer.Option("--max-streams", min=1, help="So many at a time, over all prompts.")
    ] = 16,
    timeout: TimeoutOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write answers to a .jsonl or .csv file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Runs a prompt, or a file of them, through the base model and adapters, all at once.

    Ends with exit code 1 when an answer failed; the others are shown all the same.
    """
    texts, adapters = _split(arguments, prompts)
    comparison = Comparison(
        prompts=texts,
        adapters=[*([""] if base else []), *adapters],
        as_chat=chat,
        asked=cast("Asked", {**sampling, "timeout": timeout}),
        max_streams=max_streams,
    )
    if not comparison.adapters:
        raise CommandError("name an adapter, or leave --no-base out")
    settings = Settings.of(context)
    answers = asyncio.run(_compare(settings, comparison, output, as_json=as_json))
    if as_json:
        print_json(answers)
    elif len(texts) > 1:
        stdout().print(totals(comparison.adapters, answers))
    if any(answer.error for answer in answers):
        raise typer.Exit(1)


def _split(arguments: Sequence[str], prompts: Path | None) -> tuple[list[str], Sequence[str]]:
    """(prompts, adapters)."""
    if prompts is not None:
        return read_prompts(prompts), arguments
    text = sys.stdin.read() if arguments[0] == "-" else arguments[0]
    return [text], arguments[1:]


async def _compare(
    settings: Settings, comparison: Comparison, output: Path | None, *, as_json: bool
) -> list[Answer]:
    screen = screen_for(len(comparison.prompts), len(comparison.adapters), is_quiet=as_json)
    found: list[Answer] = []
    with answer_writer(output) as write:
        async with settings.async_client() as client:
            await client.server_info()  # connects, so that no answer's time has that in it
            with screen:
                answers_by_prompt = answer_all(client, comparison, screen.began, screen.ended)
                async with aclosing(answers_by_prompt):
                    async for answers in answers_by_prompt:
                        for answer in answers:
                            write(answer)
                        screen.show(answers)
                        found += answers
    return found
