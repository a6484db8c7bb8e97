"""How often each token of one request came, kept up to date a token at a time."""

from collections.abc import Sequence as Series

import numpy as np


class TokenCounts:
    """Slots are in the order of first appearance: the token `ids[slot]` came
    `num_output[slot]` times in the output; 0 for a token of the prompt alone."""

    def __init__(self, prompt_token_ids: Series[int] = ()) -> None:
        distinct = dict.fromkeys(prompt_token_ids)
        self._slots = {token_id: slot for slot, token_id in enumerate(distinct)}
        self._ids = np.array(list(distinct), dtype=np.int64)
        self._num_output = np.zeros(len(distinct), dtype=np.int64)

    @property
    def ids(self) -> np.ndarray:
        return self._ids[: len(self._slots)]

    @property
    def num_output(self) -> np.ndarray:
        return self._num_output[: len(self._slots)]

    def add(self, token_id: int) -> None:
        """Counts a token of the output."""
        slot = self._slots.setdefault(token_id, len(self._slots))
        if slot == len(self._ids):
            room = np.zeros(max(16, slot), dtype=np.int64)
            self._ids = np.concatenate([self._ids, room])
            self._num_output = np.concatenate([self._num_output, room])
        self._ids[slot] = token_id
        self._num_output[slot] += 1
