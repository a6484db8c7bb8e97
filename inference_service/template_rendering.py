"""Chat templates: Jinja as Hugging Face checkpoints expect it.

Also run as a script, by path: a worker that renders templates which tenants supplied, in a process
of its own, where an endless loop or a huge string can be ended without ending the service. For
that it imports nothing of the service. Frames both ways are a 4-byte length and JSON.
"""

import functools
import json
import resource
import signal
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, NoReturn

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

FRAME_HEADER = struct.Struct("!I")
MAX_RENDERED_CHARACTERS = 4 * 1024 * 1024
_WORKER_MEMORY_BYTES = 512 * 1024 * 1024
_WORKER_RENDER_SECONDS = 2


class TemplateRefusedError(ValueError):
    """The template is not valid, or refused this conversation; `field` is what it has against."""

    def __init__(self, message: str, field: str = "messages") -> None:
        super().__init__(message)
        self.field = field


class _GenerationBlock(jinja2.ext.Extension):
    """`{% generation %}` marks what the assistant said, for training: here it is its content."""

    tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@dataclass(frozen=True)
class CompiledTemplate:
    """A template, and the names that it takes from whoever renders it."""

    template: jinja2.Template
    variables: frozenset[str]


@functools.lru_cache(maxsize=64)
def compile_template(source: str) -> CompiledTemplate:
    """Compiles a template; TemplateRefusedError when it is not one."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_GenerationBlock, jinja2.ext.loopcontrols],
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    environment.globals["dict"] = _make_dict
    del environment.globals["lipsum"]
    try:
        variables = jinja2.meta.find_undeclared_variables(environment.parse(source))
        return CompiledTemplate(environment.from_string(source), frozenset(variables))
    except jinja2.TemplateError as error:
        raise TemplateRefusedError(f"the chat template does not compile: {error}") from error


def render_template(
    source: str,
    messages: Sequence[Mapping[str, Any]],
    special_tokens: Mapping[str, str],
    tools: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Renders a conversation up to where the assistant speaks next."""
    compiled = compile_template(source)
    if tools and "tools" not in compiled.variables:
        raise TemplateRefusedError("the chat template has no place for tools", "tools")
    try:
        return compiled.template.render(
            messages=messages,
            tools=list(tools) or None,
            documents=None,
            add_generation_prompt=True,
            **special_tokens,
        )
    except jinja2.TemplateError as error:
        raise TemplateRefusedError(f"the chat template refused: {error}") from error
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        raise TemplateRefusedError(f"the chat template failed: {error}") from error


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _make_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)


def serve_worker(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answers frames until the other end closes; a render that takes too long ends the process."""
    resource.setrlimit(resource.RLIMIT_AS, (_WORKER_MEMORY_BYTES, _WORKER_MEMORY_BYTES))
    while header := requests.read(FRAME_HEADER.size):
        request = json.loads(requests.read(FRAME_HEADER.unpack(header)[0]))
        signal.alarm(_WORKER_RENDER_SECONDS)  # not handled: the signal ends the process
        answer = json.dumps(_answer(request)).encode()
        signal.alarm(0)
        answers.write(FRAME_HEADER.pack(len(answer)) + answer)
        answers.flush()


def _answer(request: Mapping[str, Any]) -> dict[str, str]:
    try:
        text = render_template(**request)
    except TemplateRefusedError as error:
        return {"refused": str(error)[:1000], "field": error.field}
    except (MemoryError, RecursionError, OverflowError):
        return {"refused": "the chat template needs too much memory"}
    if len(text) > MAX_RENDERED_CHARACTERS:
        return {"refused": "the chat template renders too much text"}
    return {"text": text}


if __name__ == "__main__":
    serve_worker(sys.stdin.buffer, sys.stdout.buffer)
