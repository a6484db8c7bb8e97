"""The order in which steps are launched and finished."""

import time
from collections.abc import Callable

from inference_service.engine.request import TokenOutput
from inference_service.engine.running_step import SampledStep
from inference_service.engine.step_plan import ScheduledChunk
from inference_service.engine.step_runner import StepRunner


class StepPipe:
    """At most one step is in flight: launched, and not finished.

    Where steps overlap, a device computes while the host chooses, packs, and sends:

        host     forward 1, sample 1 │ forward 2, finish 1, sample 2 │ forward 3, finish 2, …
        device            forward 1, sample 1, forward 2,     sample 2, forward 3, …

    Otherwise each step is finished where it was launched, and none is in flight afterwards.
    """

    def __init__(
        self,
        steps: StepRunner,
        overlaps: bool,
        observe: Callable[[list[ScheduledChunk], float], None],
    ) -> None:
        """`observe` is told of each step that is finished, and how many seconds it took: those
        since the one before was finished, if it was launched by then."""
        self._steps, self._overlaps, self._observe = steps, overlaps, observe
        self._in_flight: SampledStep | None = None
        self._finished = 0.0

    @property
    def is_empty(self) -> bool:
        return self._in_flight is None

    def run(self, chunks: list[ScheduledChunk]) -> list[TokenOutput]:
        """Launches a step of at least one chunk; the outputs of what was finished."""
        step = self._steps.forward(chunks, self._in_flight)
        outputs = self.drain()
        self._in_flight = self._steps.sample(step)
        return outputs if self._overlaps else outputs + self.drain()

    def drain(self) -> list[TokenOutput]:
        """Finishes the step in flight, if there is one."""
        step, self._in_flight = self._in_flight, None
        if step is None:
            return []
        outputs = self._steps.finish(step)
        now = time.perf_counter()
        self._observe(step.chunks, now - max(step.began, self._finished))
        self._finished = now
        return outputs
