"""Tool calls in a stream of text pieces."""

from collections.abc import Collection
from dataclasses import dataclass, field

from inference_service.stop_strings import StopStringMatcher
from inference_service.tools.call import ToolCall, checked_call
from inference_service.tools.formats import CallFormat
from inference_service.tools.readers import SPACE, MalformedCallError, Reader, read_object


@dataclass
class Found:
    """What a piece added: text that is no call, calls, and why text that began as one is none."""

    text: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __add__(self, later: "Found") -> "Found":
        return Found(self.text + later.text, self.calls + later.calls, self.errors + later.errors)


class ToolCallFinder:
    """Tells calls from text, the same however the text is cut into pieces.

    Text passes at once, but for what may be the beginning of a marker. A call is held until it is
    complete. Where it turns out to be none, all of it up to there is text, and reading goes on.

    Spaces (and a bare format's semicolon) before a first call, between calls and after the last
    belong to the calls: they are text only if other text comes before the next call.

    States:      gap ──(other text)──► text          A call that is malformed leads to text, a good
                  ▲ └──► call ◄──(marker)──┘         one to a gap.
                  └────────┘
    """

    def __init__(self, call_format: CallFormat, tool_names: Collection[str]) -> None:
        self._format = call_format
        self._tool_names = tool_names
        self._marker = StopStringMatcher([call_format.marker])
        self._found = Found()
        self._held = ""  # in a gap, and after one until other text comes: what it is made of
        self._is_gap = True
        self._awaited = "{" if call_format.is_bare else ""  # what ends a gap for a bare call
        self._had_call = False
        self._reader: Reader[str] | None = None
        self._raw: list[str] = []  # of the call that is being read

    def push(self, piece: str) -> Found:
        """Adds a piece; returns what is certain now."""
        while piece:
            if self._reader is not None:
                piece = self._read_call(self._reader, piece)
            elif self._is_gap:
                piece = self._read_gap(piece)
            else:
                piece = self._read_text(piece)
        return self._take_found()

    def flush(self) -> Found:
        """What was held back, once no more text will come."""
        if self._reader is not None:
            self._end_malformed("", "the output ended before the call did")
        self._say(self._marker.flush())
        if not self._had_call:
            self._found.text += self._held
            self._held = ""
        return self._take_found()

    def _read_gap(self, piece: str) -> str:
        """Returns the rest of the piece, as do all `_read` methods."""
        rest = piece.lstrip(SPACE)
        self._held += piece[: len(piece) - len(rest)]
        if not rest:
            return ""
        if rest[0] != self._awaited:
            self._is_gap = False
            return rest
        if rest[0] == "{":
            self._begin("{", read_object())
        else:
            self._held += rest[0]
            self._awaited = "{"
        return rest[1:]

    def _read_text(self, piece: str) -> str:
        emission = self._marker.push(piece)
        self._say(emission.text)
        if emission.stop_string:
            self._begin(emission.stop_string, self._format.read())
        return emission.rest

    def _read_call(self, reader: Reader[str], piece: str) -> str:
        for index, character in enumerate(piece):
            try:
                reader.send(character)
            except StopIteration as end:
                self._end_complete(piece[: index + 1], end.value)
                return piece[index + 1 :]
            except MalformedCallError as error:
                self._end_malformed(piece[:index], str(error))
                return piece[index:]
        self._raw.append(piece)
        return ""

    def _begin(self, opening: str, reader: Reader[str]) -> None:
        next(reader)
        self._reader = reader
        self._raw, self._held = [self._held, opening], ""

    def _end_complete(self, last: str, source: str) -> None:
        try:
            call = checked_call(source, self._format, self._tool_names)
        except MalformedCallError as error:
            self._end_malformed(last, str(error))
            return
        self._found.calls.append(call)
        self._reader, self._raw = None, []
        self._is_gap, self._had_call = True, True
        self._awaited = ";" if self._format.is_bare else ""

    def _end_malformed(self, last: str, reason: str) -> None:
        raw = "".join([*self._raw, last])
        self._reader, self._raw = None, []
        self._is_gap = False
        self._say(raw)
        self._found.errors.append(reason)

    def _say(self, text: str) -> None:
        if text:
            self._found.text += self._held + text
            self._held = ""

    def _take_found(self) -> Found:
        found, self._found = self._found, Found()
        return found
