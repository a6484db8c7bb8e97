"""Steps of batches that decode, prefill left out; points take turns."""

import itertools
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from benchmarks.curves.setting import Setting
from inference_service.engine.engine import Engine
from inference_service.engine.request import Abort, SamplingOptions, StepOutput, Submit

_REQUEST_IDS = itertools.count(1)
_TOKENS = 500  # that every model here knows

X = TypeVar("X", bound=Hashable)


@dataclass(frozen=True)
class Batch:
    """A sequence for each digest ("" for the base), all with `context` tokens and some more.

    Their prompts are those from number `first` on: the prefix cache has them after one call.
    """

    digests: Sequence[str]
    context: int = 32
    first: int = 0
    num_steps: int = 8

    def seconds_per_step(self, engine: Engine) -> float:
        """The median."""
        running = list(self._submit(engine))
        waiting = set(running)
        while waiting:
            waiting.difference_update(_outputs(engine))
        seconds = []
        for _ in range(self.num_steps):
            began = time.perf_counter()
            assert len(_outputs(engine)) == len(running), "a step of something else"
            seconds.append(time.perf_counter() - began)
        for request_id in running:
            engine.handle(Abort(request_id))
        return statistics.median(seconds)

    def _submit(self, engine: Engine) -> Iterator[int]:
        # Sequences that begin sooner decode while the others are still in their prompts.
        sampling = SamplingOptions(temperature=0.0, max_tokens=400)
        for number, digest in enumerate(self.digests, self.first):
            request_id = next(_REQUEST_IDS)
            submit = Submit(request_id, prompt(number, self.context), sampling, digest)
            assert not engine.handle(submit)
            yield request_id


def prompt(number: int, num_tokens: int) -> list[int]:
    """No two begin alike, of the first 250,000."""
    begin = [number % _TOKENS, number // _TOKENS]
    return begin + [(number * 7919 + 13 * i) % _TOKENS for i in range(num_tokens - len(begin))]


def medians(points: Mapping[X, Callable[[], float]], setting: Setting) -> dict[X, float]:
    """Calls each point once a round, in turns, so that what else the machine does falls on all."""
    found: dict[X, list[float]] = {x: [] for x in points}
    for number in rounds(setting):
        for x, call in points.items():
            figure = call()
            if number:
                found[x].append(figure)
    return {x: statistics.median(figures) for x, figures in found.items()}


def rounds(setting: Setting) -> Iterator[int]:
    """0 for the warm-up, then the rounds that count, with a bar of progress."""
    for number in track(range(setting.rounds + 1), "rounds", console=Console(stderr=True)):
        yield number
        setting.floor.observe()


def _outputs(engine: Engine) -> list[int]:
    """Request ids of the tokens of one step."""
    return [
        output.request_id
        for reply in engine.step()
        if isinstance(reply, StepOutput)
        for output in reply.outputs
    ]
