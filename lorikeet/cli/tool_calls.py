"""Tools on the command line: read from a file, and their calls for people to read."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from lorikeet.cli.failures import CommandError
from lorikeet.cli.output import stdout
from lorikeet.completion import Choice
from lorikeet.conversation import ToolCall, tool_of

ToolsOption = Annotated[
    Path | None,
    typer.Option("--tools", help="JSON file: a list of tools, as OpenAI has them."),
]
ToolChoiceOption = Annotated[
    str, typer.Option("--tool-choice", help="auto, or none: tools are not told of.")
]


def read_tools(path: Path | None) -> list[dict[str, Any]]:
    """The tools of a file; CommandError says what is wrong with it."""
    if path is None:
        return []
    try:
        tools = json.loads(path.read_text(encoding="utf-8"))
        for tool in tools:
            tool_of(tool)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CommandError(f"{path} is not a JSON list of tools: {error}") from error
    return list(tools)


def print_tool_calls(choice: Choice) -> None:
    """Each call on a line, and why others are none."""
    for call in choice.tool_calls:
        stdout().print(f"→ {as_text(call)}", style="cyan", markup=False, soft_wrap=True)
    for error in choice.tool_call_errors:
        stdout().print(f"(not a tool call: {error})", style="dim", markup=False, soft_wrap=True)


def as_text(call: ToolCall) -> str:
    """`add(a=1, b="x")`."""
    arguments = json.loads(call.arguments)
    shown = (f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments.items())
    return f"{call.name}({', '.join(shown)})"
