"""Which tokens of which sequences are in a step."""

from dataclasses import dataclass, field

from inference_service.engine.fair_queue import OUTPUT_COST, PROMPT_COST
from inference_service.engine.sequence import Sequence


@dataclass(frozen=True)
class ScheduledChunk:
    """The next `num_tokens` uncomputed tokens of a sequence."""

    sequence: Sequence
    num_tokens: int

    @property
    def samples(self) -> bool:
        """Whether the step ends with a new token for this sequence."""
        return self.num_tokens == self.sequence.num_uncomputed

    @property
    def end(self) -> int:
        """How many tokens of the sequence are computed after the step."""
        return self.sequence.num_computed + self.num_tokens

    @property
    def cost(self) -> float:
        """For the tenant: nothing for tokens recomputed after a preemption."""
        start = max(self.sequence.num_computed, self.sequence.num_charged)
        num_prompt = max(0, min(self.end, self.sequence.num_prompt) - start)
        num_output = max(0, self.end - start - num_prompt)
        return PROMPT_COST * num_prompt + OUTPUT_COST * num_output


@dataclass
class StepPlan:
    """What was chosen so far for a step of at most `max_tokens`."""

    max_tokens: int
    num_tokens: int = 0
    num_decoding: int = 0
    chunks: list[ScheduledChunk] = field(default_factory=list)

    def add(self, chunk: ScheduledChunk) -> None:
        self.num_decoding += chunk.sequence.num_uncomputed == 1
        self.num_tokens += chunk.num_tokens
        self.chunks.append(chunk)
