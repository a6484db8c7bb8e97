"""The filter of ListAdapters: a small part of AIP-160, and nothing beyond it in silence.

filter = term { "AND" term }
term   = "labels." key "=" value | "base_model" "=" value | "warm" "=" "true"
       | prefix of the adapter's id
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from adapter_format.violation import shown
from lorikeet.rpc.errors import InvalidArgumentError
from lorikeet.rpc.names import BaseModelName
from registry_service.requests import check_text, invalid

_MAX_FILTER = 2048
_MAX_TERMS = 16
_TOKEN = re.compile(r'\s*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<word>[\w./-]+)|(?P<sign>[^\w\s"]+|"))')
_PREFIX = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
# A key becomes part of a path into JSON, which has no way to say these.
_KEY = re.compile(r"[ !#-\[\]-~]{1,63}")
_HINT = (
    'use terms such as labels.team = "x", base_model = "baseModels/b" or warm = true, joined by AND'
)


@dataclass(frozen=True)
class AdapterFilter:
    """Adapters whose id begins with `prefix`, of this base model, and with all these labels;
    if `warm`, only those of which an alias is kept warm."""

    prefix: str = ""
    base_model: str = ""
    labels: tuple[tuple[str, str], ...] = field(default=())
    warm: bool = False


@dataclass
class _Terms:
    """What was read so far."""

    prefixes: list[str] = field(default_factory=list)
    base_models: list[str] = field(default_factory=list)
    labels: list[tuple[str, str]] = field(default_factory=list)
    is_warm: bool = False


def parse_filter(text: str) -> AdapterFilter:
    """INVALID_ARGUMENT on `filter` names what is not understood."""
    check_text(text, "filter", _MAX_FILTER)
    tokens = list(_tokens(text))
    terms = _Terms()
    while tokens:
        _take_term(tokens, terms)
        if tokens:
            _take_and(tokens)
    prefixes, base_models, labels = terms.prefixes, terms.base_models, terms.labels
    if len(prefixes) > 1 or len(base_models) > 1 or len(labels) > _MAX_TERMS:
        raise _refused("one prefix, one base_model and 16 labels are the most")
    return AdapterFilter("".join(prefixes), "".join(base_models), tuple(labels), terms.is_warm)


def _take_and(tokens: list[tuple[str, str]]) -> None:
    kind, found = tokens.pop(0)
    if (kind, found) != ("word", "AND"):
        raise _refused(f"{shown(found)} where AND was expected")
    if not tokens:
        raise _refused("AND without another term")


def _take_term(tokens: list[tuple[str, str]], terms: _Terms) -> None:
    kind, name = tokens.pop(0)
    key = ""
    if name == "labels." and tokens and tokens[0][0] == "text":
        key = _unquoted(tokens.pop(0)[1])
    if tokens and tokens[0][0] == "sign":
        sign = tokens.pop(0)[1]
        if sign != "=" or not tokens or tokens[0][0] == "sign":
            raise _refused(f"{shown(sign)} after {shown(name)}")
        value = _unquoted(tokens.pop(0)[1])
        if name == "base_model":
            terms.base_models.append(BaseModelName.parse(value, "filter").base_model)
        elif name == "warm":
            if value != "true":
                raise _refused("warm = true is the only question about it")
            terms.is_warm = True
        elif kind == "word" and name.startswith("labels."):
            terms.labels.append((_checked_key(key or name.removeprefix("labels.")), value))
        else:
            raise _refused(f"there is no field {shown(name)}")
    elif kind == "word" and not key and _PREFIX.fullmatch(name):
        terms.prefixes.append(name)
    else:
        raise _refused(f"{shown(name)} is not a term")


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    text = text.strip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise _refused(f"{shown(text[position:])} is not a term")
        yield match.lastgroup, match.group(match.lastgroup)
        position = match.end()


def _unquoted(token: str) -> str:
    if not token.startswith('"'):
        return token
    return re.sub(r"\\(.)", r"\1", token[1:-1])


def _checked_key(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise _refused(f"the label {shown(key)} cannot be filtered by")
    return key


def _refused(description: str) -> InvalidArgumentError:
    return invalid("filter", f"{description}: {_HINT}", "INVALID_FILTER")
