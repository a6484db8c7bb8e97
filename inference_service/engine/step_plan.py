"""Which tokens of which sequences are in a step."""

from dataclasses import dataclass, field

from inference_service.engine.fair_queue import OUTPUT_COST, PROMPT_COST
from inference_service.engine.sequence import Sequence


@dataclass(frozen=True)
class ScheduledChunk:
    """Tokens [start, start + num_tokens) of a sequence, the first of them not computed yet.

    `samples`: whether the step ends with a new token for this sequence. `cost`: for the tenant;
    nothing for tokens recomputed after a preemption.
    """

    sequence: Sequence
    start: int
    num_tokens: int
    samples: bool
    cost: float

    @classmethod
    def next_of(cls, sequence: Sequence, num_tokens: int) -> "ScheduledChunk":
        """The next `num_tokens` uncomputed tokens, as the sequence is now."""
        start = sequence.num_computed
        end = start + num_tokens
        first_charged = max(start, sequence.num_charged)
        num_prompt = max(0, min(end, sequence.num_prompt) - first_charged)
        num_output = max(0, end - first_charged - num_prompt)
        cost = PROMPT_COST * num_prompt + OUTPUT_COST * num_output
        return cls(sequence, start, num_tokens, end == sequence.num_tokens, cost)

    @property
    def end(self) -> int:
        """How many tokens of the sequence are computed after the step."""
        return self.start + self.num_tokens


@dataclass
class StepPlan:
    """What was chosen so far for a step of at most `max_tokens`.

    `is_closed`: there are no pages for who is next, so nobody else is admitted.
    """

    max_tokens: int
    num_tokens: int = 0
    num_decoding: int = 0
    is_closed: bool = False
    chunks: list[ScheduledChunk] = field(default_factory=list)

    def add(self, chunk: ScheduledChunk) -> None:
        self.num_decoding += chunk.samples and chunk.num_tokens == 1
        self.num_tokens += chunk.num_tokens
        self.chunks.append(chunk)
