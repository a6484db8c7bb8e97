"""One sequence's part of a step."""

from collections.abc import Sequence as Series

from inference_service.engine.adapter_cache import ResidentAdapter


class StepInput:
    """Tokens [start, start + num_tokens) of a sequence, and where its KV lies.

    A token that the step before sampled, and that is not known yet, is a negative number: see
    `stand_in`. `samples`: whether the logits after the last of them are asked for.
    """

    __slots__ = ("adapter", "num_tokens", "samples", "start", "table", "token_ids")

    def __init__(
        self,
        token_ids: list[int],
        start: int,
        table: Series[int],
        adapter: ResidentAdapter | None,
        samples: bool,
    ) -> None:
        self.token_ids = token_ids
        self.num_tokens = len(token_ids)
        self.start = start
        self.table = table
        self.adapter = adapter
        self.samples = samples


def stand_in(row: int) -> int:
    """Takes the place of the token in a row of what the step before sampled."""
    return -1 - row
