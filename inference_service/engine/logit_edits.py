"""What a request changes about its logits, as it stands after each token. No torch here."""

from collections.abc import Sequence as Series

import numpy as np

from inference_service.engine.request import SamplingOptions
from inference_service.engine.token_counts import TokenCounts

_NO_PENALTIES = (1, 0, 0)


class LogitEdits:
    """One request's edits. Owned by its Sequence, which tells it every token of the output."""

    def __init__(self, prompt_token_ids: Series[int], options: SamplingOptions) -> None:
        self._min_tokens = options.min_tokens
        self.bias_ids = np.array(list(options.logit_bias), dtype=np.int64)
        self.biases = np.array(list(options.logit_bias.values()), dtype=np.float32)
        self.penalties = _penalties(options)
        self.counts = TokenCounts(prompt_token_ids if options.repetition_penalty != 1 else ())
        self._num_output = 0
        self._stop_ids = np.array(options.stop_token_ids, dtype=np.int64)

    @classmethod
    def make(cls, prompt_token_ids: Series[int], options: SamplingOptions) -> "LogitEdits | None":
        """None for a request that takes its logits as they are."""
        penalizes = _penalties(options) != _NO_PENALTIES
        has_edits = options.min_tokens > 0 or options.logit_bias or penalizes
        return cls(prompt_token_ids, options) if has_edits else None

    @property
    def penalizes(self) -> bool:
        return self.penalties != _NO_PENALTIES

    @property
    def masked_ids(self) -> np.ndarray:
        """The tokens that may not come next: the stop tokens, until there are min_tokens."""
        return self._stop_ids if self._num_output < self._min_tokens else self._stop_ids[:0]

    def add(self, token_id: int) -> None:
        """Takes note of a token of the output."""
        self._num_output += 1
        if self.penalizes:
            self.counts.add(token_id)


def _penalties(options: SamplingOptions) -> tuple[float, float, float]:
    return options.repetition_penalty, options.frequency_penalty, options.presence_penalty
