"""Patterns: the same names as Python's `re` finds, and no pattern that never ends."""

import re
import warnings
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_format.name_pattern import MatchBudget, NamePattern, SuffixPattern
from adapter_format.name_syntax import PatternError

_ATOMS = st.sampled_from(
    [*"ab1_.", r"\.", r"\d", r"\w", r"\W", "[ab]", "[^a.]", "[a-c1]", r"[\d.]", "(?:)"]
)
_ANCHORS = st.sampled_from(["^", "$", r"\b", r"\B", r"\A", r"\Z"])
_REPEATS = st.sampled_from(
    ["*", "+", "?", "*?", "+?", "??", "{2}", "{1,2}", "{,2}", "{2,}?", "{0}"]
)


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    groups = st.tuples(st.sampled_from(["(", "(?:", "(?=", "(?!"]), inner).map(
        lambda parts: f"{parts[0]}{parts[1]})"
    )
    return st.one_of(
        st.lists(inner, min_size=2, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map("|".join),
        groups,
        st.tuples(st.one_of(_ATOMS, inner.map(lambda text: f"({text})")), _REPEATS).map("".join),
    )


_PATTERNS = st.recursive(_ATOMS | _ANCHORS, _larger, max_leaves=8)
# Of an empty name Python has changed its mind about \\B; modules have names.
_NAMES = st.text("ab1_.", min_size=1, max_size=7)


@settings(max_examples=300)
@given(_PATTERNS, st.lists(_NAMES, min_size=1, max_size=6))
def test_names_are_those_that_re_finds(text: str, names: list[str]) -> None:
    whole, suffix = NamePattern(text, MatchBudget()), SuffixPattern(text, MatchBudget())
    for name in names:
        assert whole.matches(name) == (re.fullmatch(text, name) is not None)
        expected = re.match(rf"(.*\.)?({text})$", name) is not None
        assert suffix.matches(name) == expected


@settings(max_examples=300)
@given(st.text(r"ab.\()[]{}|*+?^$-,:=!<P1dD", max_size=9))
def test_what_re_refuses_is_refused(text: str) -> None:
    try:
        NamePattern(text, MatchBudget())
    except PatternError:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        re.compile(text)


NAME = "model.layers.0.self_attn." + "a" * 60
CATASTROPHES = [
    "(.*.*)*!",
    "(.*)*(.*)*(.*)*!",
    r"(\w|\w)*!",
    r"(\w+\.?)+!",
    r"([a-z]+)*\.(a|aa)+!",
    "((a|a|b?)*)*!",
    ".*" * 40 + "!",
    "(a?){40}" + "a{40}" + "!",
    "(?!(a|a)*!)" + ".*!",
]


@pytest.mark.parametrize("text", CATASTROPHES)
@pytest.mark.parametrize("kind", [NamePattern, SuffixPattern])
def test_a_catastrophic_pattern_is_answered(
    text: str, kind: Callable[[str, MatchBudget], NamePattern | SuffixPattern]
) -> None:
    """`re` would be at it for longer than the test may take."""
    assert not kind(text, MatchBudget()).matches(NAME)


@pytest.mark.parametrize(
    "text",
    [
        "((a{1000}){1000}){1000}",
        "(?:(?:(?:){1000}){1000}){1000}",
        "a{1001}",
        "a{99999999999}",
        "(" * 5000,
        "(" * 100 + ")" * 100,
        "a" * 5000,
        "(a|b)" * 900,
        "(?<=a)b",
        "(?<name>a)",
        "(?P<name>a)(?P=name)",
        r"(a)\1",
        "(?i)a",
        "(?#note)a",
        "(?>a)",
        "a*+",
        "a**",
        "(a)(?(1)b|c)",
        "^*",
        "[b-a]",
        r"[a-\d]",
        "[a",
        "[[a]]",
        "a{",
        "a\\",
        r"\x41",
        r"\n",
        "(a",
        "a)",
        "*",
    ],
)
def test_what_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(PatternError):
        NamePattern(text, MatchBudget())


def test_a_budget_bounds_what_many_names_cost() -> None:
    pattern = NamePattern("(?=.*(a|b).*(a|b).*)" * 20 + ".*x", MatchBudget(80_000))

    def match_all() -> None:
        for number in range(10_000):
            pattern.matches(f"model.layers.{number}.self_attn.q_proj")

    with pytest.raises(PatternError, match="takes too long"):
        match_all()


def test_a_budget_bounds_what_many_patterns_cost() -> None:
    budget = MatchBudget()
    with pytest.raises(PatternError, match="takes too long"):
        [SuffixPattern(f"(?:[a-z]{{1,900}}){{2}}{number}", budget) for number in range(1000)]
