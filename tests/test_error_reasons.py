"""docs/errors.md tells of every reason that an error may have, with its status, and of no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from adapter_format.violation import Reason
from lorikeet.rpc import errors

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "errors.md"
_REASON = re.compile(r"[A-Z]+(_[A-Z]+)*")
# Functions that take a reason by position.
_TAKES_REASON = {"invalid", "Refusal", "_Refusal", "Refused", "EngineRefusedError"}
# Between front end and engine only: callers hear ENGINE_RESTARTING.
_NEVER_TOLD = {"ADAPTER_UNKNOWN"}


def reasons_in_code() -> dict[str, set[str]]:
    """Reason to the statuses it is raised with, as far as the code says so in one place."""
    found: dict[str, set[str]] = {}
    for package in ("registry_service", "inference_service", "lorikeet"):
        for path in (ROOT / package).rglob("*.py"):
            for reason, status in _reasons(ast.parse(path.read_text(encoding="utf-8"))):
                found.setdefault(reason, set()).update(filter(None, [status]))
    return found


def _reasons(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            values = [word.value for word in node.keywords if word.arg == "reason"]
            values += node.args if name in _TAKES_REASON else []
            for value in values:
                if isinstance(value, ast.Constant) and _REASON.fullmatch(str(value.value)):
                    yield str(value.value), _status_of(name)
        elif isinstance(node, ast.FunctionDef):
            yield from ((reason, "") for reason in _defaults(node.args))


def _defaults(arguments: ast.arguments) -> Iterator[str]:
    """Of parameters named `reason`."""
    named = arguments.args[len(arguments.args) - len(arguments.defaults) :]
    pairs = [*zip(named, arguments.defaults, strict=True)]
    for argument, default in pairs:
        if argument.arg == "reason" and isinstance(default, ast.Constant) and default.value:
            yield str(default.value)


def _status_of(name: str) -> str:
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, errors.LorikeetError):
        return kind.code.name
    return ""


def reasons_on_page() -> dict[str, str]:
    """Reason to the section, which is a status, that it stands in."""
    found: dict[str, str] = {}
    section = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("| `"):
            for reason in re.findall(r"`([A-Z0-9_]+)`", line.split("|")[1]):
                found[reason] = section
    return found


def test_the_page_has_every_reason_and_no_other() -> None:
    told = reasons_on_page()
    raised = set(reasons_in_code()) - _NEVER_TOLD
    assert set(told) == raised | {reason.value for reason in Reason}


def test_the_page_has_them_under_their_status() -> None:
    told = reasons_on_page()
    wrong = {
        reason: statuses
        for reason, statuses in reasons_in_code().items()
        if not statuses <= {told.get(reason)}
    }
    assert not wrong
