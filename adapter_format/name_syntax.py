r"""Regular expressions over module names, read into a tree.

PEFT hands strings of adapter_config.json to Python's `re`, which takes exponential time for some of
them: `(a|a)*b` on forty letters would stall a service for hours. Here a pattern is parsed into this
tree, and name_pattern matches the tree in time linear in the name.

What is understood means what it means to `re`: literals, escaped punctuation, `.`, sets, `\d \w \s`
and their complements, groups, alternatives, repetition (greedy or lazy), `^ $ \A \Z \b \B`, and
looking ahead. Everything else is refused, as are anchors that `re` would refuse to repeat: back
references, looking behind, flags, conditionals, possessive repetition, atomic groups.
"""

import string
from dataclasses import dataclass

from adapter_format.violation import Reason

# Module names have no other characters; a set is what it takes of these.
ALPHABET = frozenset(string.ascii_letters + string.digits + "_.-")
WORD = ALPHABET - frozenset(".-")
_CLASSES = {"d": frozenset(string.digits), "w": WORD, "s": frozenset[str]()}
_CLASSES |= {name.upper(): ALPHABET - allowed for name, allowed in _CLASSES.items()}
_POSITIONS = {"b": "boundary", "B": "inside", "A": "begin", "Z": "end"}
_MAX_LENGTH = 4096
_MAX_DEPTH = 32
_MAX_REPEATS = 1000


class PatternError(ValueError):
    """Why a pattern is refused; the message is safe to show."""

    reason = Reason.PATTERN_INVALID


class CostlyPatternError(PatternError):
    """A pattern that would take too long or too much memory."""

    reason = Reason.PATTERN_TOO_COSTLY


@dataclass(frozen=True)
class Characters:
    """One character out of a set."""

    allowed: frozenset[str]


@dataclass(frozen=True)
class Position:
    """A place between characters: "begin", "end", "boundary" or "inside" (of a word)."""

    kind: str


@dataclass(frozen=True)
class Concatenation:
    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Choice:
    options: tuple["Node", ...]


@dataclass(frozen=True)
class Repeat:
    """`part`, at least `least` times and at most `most` times; None is without end."""

    part: "Node"
    least: int
    most: int | None


@dataclass(frozen=True)
class Ahead:
    """What follows begins with `part`, or does not; nothing of it is taken."""

    part: "Node"
    negated: bool


Node = Characters | Position | Concatenation | Choice | Repeat | Ahead


def parse_pattern(text: str) -> Node:
    """The tree of a pattern. Raises PatternError."""
    if len(text) > _MAX_LENGTH:
        message = f"has {len(text)} characters: at most {_MAX_LENGTH} are allowed"
        raise CostlyPatternError(message)
    parser = _Parser(text)
    node = parser.choice(0)
    if parser.next:
        raise PatternError("has a ')' too many")
    return node


class _Parser:
    """Recursive descent; `next` is the character at the position, or empty at the end."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    @property
    def next(self) -> str:
        return self._text[self._position : self._position + 1]

    def choice(self, depth: int) -> Node:
        if depth > _MAX_DEPTH:
            raise CostlyPatternError(f"has groups nested deeper than {_MAX_DEPTH}")
        options = [self._concatenation(depth)]
        while self._accept("|"):
            options.append(self._concatenation(depth))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _accept(self, token: str) -> bool:
        found = self._text.startswith(token, self._position)
        if found:
            self._position += len(token)
        return found

    def _take(self) -> str:
        taken = self.next
        if not taken:
            raise PatternError("ends where more is needed")
        self._position += 1
        return taken

    def _concatenation(self, depth: int) -> Node:
        parts: list[Node] = []
        while self.next and self.next not in "|)":
            parts.append(self._repeated(self._atom(depth)))
        return Concatenation(tuple(parts))

    def _atom(self, depth: int) -> Node:
        character = self._take()
        match character:
            case "(":
                return self._group(depth)
            case "[":
                return Characters(self._set())
            case "\\":
                return self._escape()
            case ".":
                return Characters(ALPHABET)
            case "^":
                return Position("begin")
            case "$":
                return Position("end")
            case "*" | "+" | "?" | "{":
                raise PatternError(f"has a {character} with nothing to repeat: escape it")
        return Characters(frozenset(character))

    def _group(self, depth: int) -> Node:
        if self._accept("?="):
            wrap = "ahead"
        elif self._accept("?!"):
            wrap = "not ahead"
        elif self._accept("?:"):
            wrap = ""
        elif self.next == "?":
            raise PatternError("has a group that is neither (…), (?:…), (?=…) nor (?!…)")
        else:
            wrap = ""
        inner = self.choice(depth + 1)
        if not self._accept(")"):
            raise PatternError("has a '(' that is not closed")
        # A group of one part stays a group: `(?:^)*` may be repeated, `^*` may not.
        return Ahead(inner, wrap == "not ahead") if wrap else Concatenation((inner,))

    def _escape(self) -> Node:
        character = self._take()
        if character in _POSITIONS:
            return Position(_POSITIONS[character])
        return Characters(self._escaped(character))

    def _escaped(self, character: str) -> frozenset[str]:
        if character in _CLASSES:
            return _CLASSES[character]
        if character.isalnum() or not character.isascii():
            raise PatternError(f"has the escape \\{character}, which is not supported")
        return frozenset(character)

    def _set(self) -> frozenset[str]:
        negated = self._accept("^")
        allowed: frozenset[str] = frozenset()
        first = True
        while first or self.next != "]":
            allowed |= self._set_item()
            first = False
        self._take()
        return ALPHABET - allowed if negated else allowed

    def _set_item(self) -> frozenset[str]:
        low, low_set = self._set_end()
        after = self._text[self._position : self._position + 2]
        if not after.startswith("-") or after in ("-", "-]"):
            return low_set
        self._take()
        high, _ = self._set_end()
        if not low or not high or low > high:
            raise PatternError("has a set with a range that has no order")
        return frozenset(c for c in ALPHABET if low <= c <= high)

    def _set_end(self) -> tuple[str, frozenset[str]]:
        """One end of a range; the character is empty where it is a class, such as \\d."""
        character = self._take()
        if character == "[":
            raise PatternError("has a '[' inside a set: escape it")
        if character != "\\":
            return character, frozenset(character)
        character = self._take()
        allowed = self._escaped(character)
        return ("" if character in _CLASSES else character), allowed

    def _repeated(self, node: Node) -> Node:
        bounds = self._bounds()
        if bounds is None:
            return node
        if isinstance(node, Position):
            raise PatternError("repeats an anchor")
        least, most = bounds
        if max(least, most or 0) > _MAX_REPEATS:
            raise CostlyPatternError(f"repeats something more than {_MAX_REPEATS} times")
        if most is not None and most < least:
            raise PatternError("has a repetition whose most is less than its least")
        self._accept("?")  # lazy: it finds the same names
        if self.next and self.next in "*+?{":
            raise PatternError("has a repetition of a repetition")
        return Repeat(node, least, most)

    def _bounds(self) -> tuple[int, int | None] | None:
        if self._accept("*"):
            return 0, None
        if self._accept("+"):
            return 1, None
        if self._accept("?"):
            return 0, 1
        if not self._accept("{"):
            return None
        least = self._number()
        most = self._number() if self._accept(",") else least
        if not self._accept("}") or (least == "" and most == ""):
            raise PatternError("has a '{' that begins no repetition: escape it")
        return int(least or 0), int(most) if most else None

    def _number(self) -> str:
        start = self._position
        while self.next and self.next in string.digits:
            self._position += 1
        if self._position - start > 9:
            raise CostlyPatternError(f"repeats something more than {_MAX_REPEATS} times")
        return self._text[start : self._position]
