"""Chat templates of adapters: parsed as the inference service will, and never run here.

Parsed, not compiled: compiling folds constants, and `{{ 9 ** 9 ** 9 }}` is a constant.
"""

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from adapter_format.violation import shown

_FILTERS_OF_CHECKPOINTS = frozenset({"tojson"})


class _GenerationBlock(jinja2.ext.Extension):
    """`{% generation %}`, which checkpoints of Hugging Face use to mark what was said."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def template_problem(source: str) -> str | None:
    """Why `source` is not a chat template, with the line; None when it is one."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_GenerationBlock, jinja2.ext.loopcontrols],
    )
    try:
        tree = environment.parse(source)
        return _unknown_name(environment, tree)
    except jinja2.TemplateSyntaxError as error:
        return f"line {error.lineno}: {shown(error.message or 'is not Jinja')}"
    except RecursionError:
        return "is nested too deeply"


def _unknown_name(environment: jinja2.Environment, tree: nodes.Template) -> str | None:
    for node in tree.find_all((nodes.Filter, nodes.Test)):
        known = environment.filters if isinstance(node, nodes.Filter) else environment.tests
        if node.name not in known and node.name not in _FILTERS_OF_CHECKPOINTS:
            kind = type(node).__name__.lower()
            return f"line {node.lineno}: there is no {kind} {shown(node.name)}"
    for other in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        return f"line {other.lineno}: a template cannot load another one"
    return None
