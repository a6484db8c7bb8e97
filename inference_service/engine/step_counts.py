"""What the engine's steps were made of, and how long they took."""

from collections.abc import Sequence
from typing import Final

from inference_service.engine.step_plan import ScheduledChunk
from inference_service.engine.step_stats import StepStats
from inference_service.engine.tally import Tally

_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_TOKENS: Final = (1, 4, 16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384)
_SECONDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0),
)


class StepCounts:
    """Counts from the engine's start. A chunk of one token decodes; longer ones are prefill."""

    def __init__(self) -> None:
        self._sizes, self._tokens = Tally(_SIZES), Tally(_TOKENS)
        self._seconds = Tally(_SECONDS)
        self._num_prefill_tokens = 0
        self._num_decode_tokens = 0

    def add(self, chunks: Sequence[ScheduledChunk], seconds: float) -> None:
        """One step of at least one chunk."""
        num_tokens = sum(chunk.num_tokens for chunk in chunks)
        num_decode = sum(chunk.num_tokens == 1 for chunk in chunks)
        self._num_prefill_tokens += num_tokens - num_decode
        self._num_decode_tokens += num_decode
        self._sizes.add(len(chunks))
        self._tokens.add(num_tokens)
        self._seconds.add(seconds)

    def reading(self) -> StepStats:
        return StepStats(
            sizes=self._sizes.reading(),
            tokens=self._tokens.reading(),
            seconds=self._seconds.reading(),
            num_prefill_tokens=self._num_prefill_tokens,
            num_decode_tokens=self._num_decode_tokens,
        )
