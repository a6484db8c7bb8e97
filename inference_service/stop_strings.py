"""Stop strings over a stream of text pieces."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Emission:
    """Text that may be sent now; `stop_string` is set when one ended it, `rest` is what follows."""

    text: str
    stop_string: str = ""
    rest: str = ""


class StopStringMatcher:
    """Finds the stop string that is complete first, however the text is cut into pieces.

    After a match it begins anew, with what is pushed next.

    "First" means: ends earliest; of those that end at the same character, the longest. This is
    the only choice that does not depend on the cuts and never waits for text that may not come.

    Invariant: `_held` is the longest suffix of the text so far that begins a stop string, so
    nothing sent can turn out to be part of one.
    """

    def __init__(self, stop_strings: Sequence[str], *, include_in_output: bool = False) -> None:
        assert all(stop_strings), "an empty stop string would end every stream at once"
        self._stop_strings = tuple(dict.fromkeys(stop_strings))
        self._include_in_output = include_in_output
        self._held = ""

    def push(self, piece: str, *, may_stop: bool = True) -> Emission:
        """Adds a piece. With `may_stop` false no stop string may end inside this piece."""
        if not self._stop_strings:
            return Emission(piece)
        text = self._held + piece
        match = self._first_match(text, len(self._held)) if may_stop and piece else None
        if match is not None:
            start, stop_string = match
            end = start + len(stop_string) if self._include_in_output else start
            self._held = ""
            return Emission(text[:end], stop_string, text[start + len(stop_string) :])
        num_held = self._num_held(text)
        self._held = text[len(text) - num_held :]
        return Emission(text[: len(text) - num_held])

    def flush(self) -> str:
        """What was held back, once no more text will come."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, text: str, num_searched: int) -> tuple[int, str] | None:
        """(start, stop string) of the match that ends first after `num_searched` characters."""
        best: tuple[int, int, str] | None = None
        for stop_string in self._stop_strings:
            start = text.find(stop_string, max(0, num_searched - len(stop_string) + 1))
            if start < 0:
                continue
            found = (start + len(stop_string), start, stop_string)
            if best is None or found < best:
                best = found
        return None if best is None else (best[1], best[2])

    def _num_held(self, text: str) -> int:
        return max(_num_begun(text, stop_string) for stop_string in self._stop_strings)


def _num_begun(text: str, stop_string: str) -> int:
    """How long the longest suffix of `text` is that begins, and does not complete, the string."""
    start = text.find(stop_string[0], max(0, len(text) - len(stop_string) + 1))
    while start >= 0:
        if stop_string.startswith(text[start:]):
            return len(text) - start
        start = text.find(stop_string[0], start + 1)
    return 0
