"""Stop strings: found wherever the text is cut, and nothing of them is sent."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from inference_service.stop_strings import Emission, StopStringMatcher

letters = st.text("ab", max_size=40)
stops = st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=4)


def expected(text: str, stop_strings: list[str]) -> tuple[str, str]:
    """(text before the stop string, stop string), by looking at every end in turn."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stop_strings if text[:end].endswith(stop)]
        if ending:
            longest = max(ending, key=len)
            return text[: end - len(longest)], longest
    return text, ""


def run(matcher: StopStringMatcher, pieces: list[str]) -> tuple[str, str]:
    sent = ""
    for piece in pieces:
        emission = matcher.push(piece)
        sent += emission.text
        if emission.stop_string:
            return sent, emission.stop_string
    return sent + matcher.flush(), ""


def cut(text: str, data: st.DataObject) -> list[str]:
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=10).map(sorted))
    borders = [0, *places, len(text)]
    return [text[a:b] for a, b in pairwise(borders)]


@given(letters, stops, st.data())
def test_the_first_complete_stop_string_ends_the_text(
    text: str, stop_strings: list[str], data: st.DataObject
) -> None:
    assert run(StopStringMatcher(stop_strings), cut(text, data)) == expected(text, stop_strings)


@given(letters, stops, st.data())
def test_the_stop_string_can_be_part_of_the_text(
    text: str, stop_strings: list[str], data: st.DataObject
) -> None:
    before, stop_string = expected(text, stop_strings)
    matcher = StopStringMatcher(stop_strings, include_in_output=True)
    assert run(matcher, cut(text, data)) == (before + stop_string, stop_string)


@given(letters, stops)
def test_only_what_can_begin_a_stop_string_is_held(text: str, stop_strings: list[str]) -> None:
    matcher = StopStringMatcher(stop_strings)
    emission = matcher.push(text, may_stop=False)
    held = text[len(emission.text) :]
    assert not held or any(stop.startswith(held) and stop != held for stop in stop_strings)


def test_a_stop_string_may_end_only_where_it_is_allowed_to() -> None:
    matcher = StopStringMatcher(["stop"])
    assert matcher.push("no stop, then st", may_stop=False) == Emission("no stop, then ")
    assert matcher.push("op here") == Emission("", "stop", rest=" here")


def test_without_stop_strings_text_passes_at_once() -> None:
    assert StopStringMatcher([]).push("as it is") == Emission("as it is")
