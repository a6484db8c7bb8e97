"""Token ids to text, a token at a time, without ever sending half a character."""

from collections.abc import Callable, Container, Sequence

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# A character is at most four bytes, so at most three tokens can wait for their fourth.
_MAX_WAITING_TOKENS = 3
# A longer run of undecodable tokens is cut, so that its cost stays linear.
_MAX_RUN_TOKENS = 16


class IncrementalDetokenizer:
    """Sends each character once it is whole; the pieces joined equal `decode` of all the tokens.

    `tokenizers.decoders.DecodeStream` does most of this, but raises on some broken byte runs, holds
    a run of undecodable bytes back for ever and cannot be flushed.

    `_window` holds the tokens still needed: those before `_num_settled` only give the rest its
    context (a decoder strips a leading space, for one). `_sent` is what was sent of its text.

    Where a tokenizer decodes bytes in runs (byte fallback) and a run turns out not to be UTF-8
    after whole characters of it were sent, those stay sent and only the rest is replaced.
    """

    def __init__(
        self, decode: Callable[[Sequence[int]], str], skipped_token_ids: Container[int] = ()
    ) -> None:
        """`decode` shows nothing of `skipped_token_ids`, the special tokens."""
        self._decode = decode
        self._skipped_token_ids = skipped_token_ids
        self._window: list[int] = []
        self._num_settled = 0
        self._num_waiting = 0  # tokens in a row that ended in the middle of a character
        self._sent = ""

    def push(self, token_id: int) -> str:
        """Adds one token; returns the text that is certain now, perhaps none."""
        if token_id in self._skipped_token_ids:
            return ""
        self._window.append(token_id)
        text = self._decode(self._window)
        if not text.endswith(_REPLACEMENT):
            return self._settle(text)
        self._num_waiting += 1
        if self._num_waiting <= _MAX_WAITING_TOKENS:
            return ""
        return self._advance_in_broken_run(text)

    def flush(self) -> str:
        """The rest, an unfinished character as a replacement character."""
        return self._settle(self._decode(self._window)) if self._window else ""

    def _settle(self, text: str) -> str:
        """Sends all of `text`; its newest tokens become the context of the next."""
        self._num_waiting = 0
        if text == self._sent:
            return ""
        piece = self._rest_of(text)
        del self._window[: self._num_settled]
        self._num_settled = len(self._window)
        self._sent = self._decode(self._window)
        return piece

    def _advance_in_broken_run(self, text: str) -> str:
        """Sends all but the last replacement character, which may yet become a character."""
        piece = self._rest_of(text)[:-1]
        self._sent = text[:-1]
        if self._num_waiting > _MAX_RUN_TOKENS:
            self._num_waiting = _MAX_WAITING_TOKENS + 1
            del self._window[: -(_MAX_WAITING_TOKENS + 1)]
            self._num_settled = 0
            self._sent = self._decode(self._window).removesuffix(_REPLACEMENT)
        return piece

    def _rest_of(self, text: str) -> str:
        if text.startswith(self._sent):
            return text[len(self._sent) :]
        return self._decode(self._window[self._num_settled :])
