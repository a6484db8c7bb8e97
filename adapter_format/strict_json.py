"""JSON from strangers: one meaning or none."""

import json
from collections import Counter
from typing import Any, NoReturn

from adapter_format.violation import Reason, shown

_MAX_DEPTH = 32


class StrictJsonError(ValueError):
    """Why a text is refused; the message is safe to show."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def parse_object(text: bytes) -> dict[str, Any]:
    """A JSON object without duplicate keys, NaN or Infinity; parsers differ on those."""
    try:
        value = json.loads(
            text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except StrictJsonError:
        raise
    except RecursionError as error:
        raise StrictJsonError(Reason.JSON_TOO_DEEP, "is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise StrictJsonError(Reason.JSON_NOT_UTF8, "is not UTF-8 text") from error
    except ValueError as error:
        message = f"is not valid JSON: {shown(str(error))}"
        raise StrictJsonError(Reason.JSON_INVALID, message) from error
    if not isinstance(value, dict):
        raise StrictJsonError(Reason.JSON_NOT_OBJECT, "is not a JSON object")
    _check_depth(value)
    return value


def _check_depth(value: dict[str, Any]) -> None:
    """Whoever walks or shows a value that the parser's own stack could hold may have less of it."""
    level: list[Any] = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            item
            for container in level
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, dict | list)
        ]
    if level:
        raise StrictJsonError(Reason.JSON_TOO_DEEP, "is nested too deeply")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        repeated, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        message = f"has the key {shown(repeated)} twice: keep one"
        raise StrictJsonError(Reason.JSON_KEY_REPEATED, message)
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise StrictJsonError(Reason.JSON_CONSTANT, f"contains {name}, which is not JSON")
