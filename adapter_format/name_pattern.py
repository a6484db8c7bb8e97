r"""Matches patterns of module names in time linear in the name: all ways at once, none twice.

A pattern's tree is compiled to a program of a nondeterministic automaton. At each character the set
of instructions reached is advanced as a whole (Thompson 1968), so that the time is bounded by the
number of instructions, whatever the pattern. A step once taken is remembered: names of a model
look alike.

Why not a library: RE2 has no lookahead, and patterns that training tools write use it, such as
`^(model\.layers)(?!.*(lm_head|gate)).*(proj)$`; `re` and `regex` backtrack, and a time limit would
let the machine's load decide what is valid.
"""

import re
from dataclasses import dataclass, field

from adapter_format.name_syntax import (
    WORD,
    Ahead,
    Characters,
    Choice,
    Concatenation,
    CostlyPatternError,
    Node,
    Position,
    Repeat,
    parse_pattern,
)

_MAX_PROGRAM = 4096
# What a remembered step, reading a character and emitting an instruction take, in visits of an
# instruction.
_STEP_COST = 4
_PARSE_COST = 5
_EMIT_COST = 20
# Names and the keys of AdaLoRA and others: without repetition or choice `re` cannot go astray.
_LITERAL = re.compile(r"\^?(?:[A-Za-z0-9_.]|\\\.){1,200}")


@dataclass
class MatchBudget:
    """Instructions that the patterns of one adapter may still visit, all together.

    Compiling them counts too. Two million take a second or two; what tools write, some thousands.
    """

    remaining: int = 2_000_000

    def spend(self, amount: int) -> None:
        self.remaining -= amount
        if self.remaining < 0:
            raise CostlyPatternError(
                "takes too long to match: write a simpler one, or list the names"
            )


@dataclass(frozen=True)
class _Take:
    allowed: frozenset[str]
    then: int


@dataclass(frozen=True)
class _Fork:
    ways: tuple[int, ...]


@dataclass(frozen=True)
class _Check:
    kind: str
    then: int


@dataclass(frozen=True)
class _Peek:
    program: "_Program"
    negated: bool
    then: int


_Instruction = _Take | _Fork | _Check | _Peek | None
"""None accepts."""
_State = frozenset[int]


@dataclass(eq=False)
class _Program:
    """Instructions, of which the first accepts; `steps` remembers what was once computed."""

    instructions: list[_Instruction] = field(default_factory=lambda: [None])
    start: int = 0
    peeks: bool = False
    steps: dict[tuple[_State, str, str], tuple[bool, _State]] = field(default_factory=dict)

    def run(self, before: str, text: str, whole: bool, budget: MatchBudget) -> bool:
        """Whether `text`, which follows the character `before`, begins with (or is) a match."""
        state: _State = frozenset((self.start,))
        for position in range(len(text) + 1):
            rest = text[position:]
            budget.spend(_STEP_COST)
            key = (state, before, rest if self.peeks else rest[:1])
            step = self.steps.get(key)
            if step is None:
                step = self.steps[key] = self._step(state, before, rest, budget)
            accepts, state = step
            if accepts and not (whole and rest):
                return True
            before = rest[:1]
        return False

    def _step(
        self, state: _State, before: str, rest: str, budget: MatchBudget
    ) -> tuple[bool, _State]:
        """Whether `state` accepts here, and the state after the next character."""
        waiting, seen, following = list(state), set[int](), set[int]()
        while waiting:
            index = waiting.pop()
            if index in seen:
                continue
            seen.add(index)
            match self.instructions[index]:
                case _Take(allowed, then):
                    if rest[:1] in allowed:
                        following.add(then)
                case _Fork(ways):
                    waiting.extend(ways)
                case _Check(kind, then):
                    if _holds(kind, before, rest):
                        waiting.append(then)
                case _Peek(program, negated, then):
                    if program.run(before, rest, False, budget) != negated:
                        waiting.append(then)
        budget.spend(len(seen))
        return 0 in seen, frozenset(following)


def _holds(kind: str, before: str, rest: str) -> bool:
    if kind == "begin":
        return not before
    if kind == "end":
        return not rest
    is_boundary = (before in WORD) != (rest[:1] in WORD)
    return is_boundary == (kind == "boundary")


class _Compiler:
    """Emits instructions from the end of a pattern to its start."""

    def __init__(self, budget: MatchBudget) -> None:
        self._left = _MAX_PROGRAM
        self._budget = budget

    def compile(self, node: Node) -> _Program:
        program = _Program()
        program.start = self._emit(program, node, 0)
        return program

    def _emit(self, program: _Program, node: Node, then: int) -> int:
        """The index of the first instruction of `node`, which goes on at `then`."""
        self._budget.spend(_EMIT_COST)
        self._left -= 1  # not of instructions only: the empty group has none to count
        if self._left < 0:
            message = f"expands to more than {_MAX_PROGRAM} steps: write a shorter one"
            raise CostlyPatternError(message)
        match node:
            case Characters(allowed):
                return _add(program, _Take(allowed, then))
            case Position(kind):
                return _add(program, _Check(kind, then))
            case Concatenation(parts):
                for part in reversed(parts):
                    then = self._emit(program, part, then)
                return then
            case Choice(options):
                ways = tuple(self._emit(program, option, then) for option in options)
                return _add(program, _Fork(ways))
            case Ahead(part, negated):
                program.peeks = True
                return _add(program, _Peek(self.compile(part), negated, then))
            case Repeat():
                return self._emit_repeat(program, node, then)

    def _emit_repeat(self, program: _Program, repeat: Repeat, end: int) -> int:
        then = end
        if repeat.most is None:
            then = _add(program, None)
            body = self._emit(program, repeat.part, then)
            program.instructions[then] = _Fork((body, end))
        else:
            for _ in range(repeat.most - repeat.least):
                then = _add(program, _Fork((self._emit(program, repeat.part, then), end)))
        for _ in range(repeat.least):
            then = self._emit(program, repeat.part, then)
        return then


def _add(program: _Program, instruction: _Instruction) -> int:
    program.instructions.append(instruction)
    return len(program.instructions) - 1


def _compile(text: str, budget: MatchBudget) -> _Program:
    budget.spend(_PARSE_COST * len(text))
    return _Compiler(budget).compile(parse_pattern(text))


class NamePattern:
    """A pattern that must match the whole of a name: `re.fullmatch`.

    Making and asking it raise PatternError, also when the budget is spent.
    """

    def __init__(self, text: str, budget: MatchBudget) -> None:
        self._program = _compile(text, budget)
        self._budget = budget

    def matches(self, name: str) -> bool:
        return self._program.run("", name, True, self._budget)


class SuffixPattern:
    """A key of rank_pattern or alpha_pattern: PEFT lets it match the end of a name, after a dot.

    The text is put into PEFT's own expression before it is parsed, as PEFT does: it may close and
    open groups there. Making and asking it raise PatternError, as above.
    """

    def __init__(self, text: str, budget: MatchBudget) -> None:
        whole = rf"(.*\.)?({text})$"
        self._literal = re.compile(whole) if _LITERAL.fullmatch(text) else None
        self._program = None if self._literal else _compile(whole, budget)
        self._budget = budget

    def matches(self, name: str) -> bool:
        if self._literal is not None:
            return self._literal.match(name) is not None
        assert self._program is not None
        return self._program.run("", name, False, self._budget)
