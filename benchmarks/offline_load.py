"""`lorikeet.load` on an engine in this process: the same requests and figures, no service."""

import time
from collections.abc import Callable, Iterator

from benchmarks.closed_loop import load_all
from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.engine.request import Abort, SamplingOptions, StepOutput, Submit, TokenOutput
from lorikeet.load.generator import Measured
from lorikeet.load.prompts import Prompts
from lorikeet.load.sample import Arrival, Sample
from lorikeet.load.workload import PlannedRequest

_IDLE_SECONDS = 0.001  # an adapter's loader is another thread, and needs the interpreter


class _Asked:
    """A request that runs."""

    def __init__(self, request: PlannedRequest, due: float) -> None:
        self.request, self.due = request, due
        self.arrivals: list[Arrival] = []
        self.failure = ""
        self.cached_tokens = 0

    def take(self, output: TokenOutput, now: float) -> None:
        if output.token_ids:
            self.arrivals.append(Arrival(now, len(output.token_ids)))
        self.cached_tokens += output.num_cached
        self.failure = output.refusal

    def sample(self, now: float) -> Sample:
        return Sample(
            request=self.request,
            due=self.due,
            sent=self.due,
            ended=now,
            arrivals=tuple(self.arrivals),
            failure=self.failure,
            prompt_tokens=self.request.prompt_tokens,
            output_tokens=self.request.output_tokens,
            cached_tokens=self.cached_tokens,
        )


class OfflineLoad:
    """As lorikeet.load's LoadGenerator, but for `PlannedRequest.adapter`: an engine's digest."""

    def __init__(
        self, engine: Engine, prompts: Prompts, told: Callable[[Sample], None] = lambda _: None
    ) -> None:
        self._engine, self._prompts, self._told = engine, prompts, told
        self._running: dict[int, _Asked] = {}
        self._samples: list[Sample] = []
        self._num_asked = 0

    def closed(self, requests: Iterator[PlannedRequest], concurrency: int) -> Measured:
        """So many at once, the next begins when one ends."""
        began = time.monotonic()
        is_over = False
        while True:
            while not is_over and len(self._running) < concurrency:
                request = next(requests, None)
                is_over = request is None
                if request is not None:
                    self._ask(request, due=time.monotonic())
            if not self._running:
                return self._measured(began)
            self._step()

    def opened(
        self, requests: Iterator[PlannedRequest], cut_after: float | None = None
    ) -> Measured:
        """Each begins when it is due: after the step that runs then.

        What has not ended `cut_after` seconds after the start is aborted, and not in the samples.
        """
        request = next(requests, None)
        assert request is not None, "a load of no requests"
        first_due = request.due
        began = time.monotonic() - first_due
        while request is not None or self._running:
            if cut_after is not None and time.monotonic() - began > cut_after:
                self._abort_all()
                break
            while request is not None and began + request.due <= time.monotonic():
                self._ask(request, due=began + request.due)
                request = next(requests, None)
            if not self._running and request is not None:
                time.sleep(max(0.0, began + request.due - time.monotonic()))
            self._step()
        return self._measured(began + first_due)

    def _abort_all(self) -> None:
        for request_id in self._running:
            self._engine.handle(Abort(request_id))
        self._running.clear()

    def _measured(self, began: float) -> Measured:
        samples, self._samples = tuple(self._samples), []
        return Measured(samples, time.monotonic() - began, ())

    def _ask(self, request: PlannedRequest, *, due: float) -> None:
        self._num_asked += 1
        prompt = self._prompts.prompt(request.number, request.prompt_tokens)
        sampling = SamplingOptions(temperature=0.0, max_tokens=request.output_tokens)
        self._running[self._num_asked] = _Asked(request, due)
        submit = Submit(self._num_asked, prompt, sampling, request.adapter, request.tenant)
        for reply in self._engine.handle(submit):
            assert isinstance(reply, StepOutput)
            self._take(reply)

    def _step(self) -> None:
        num_steps = self._engine.num_steps
        for reply in self._engine.step():
            if isinstance(reply, StepOutput):
                self._take(reply)
        if self._engine.num_steps == num_steps and not self._engine.is_idle:
            time.sleep(_IDLE_SECONDS)

    def _take(self, step: StepOutput) -> None:
        now = time.monotonic()
        for output in step.outputs:
            asked = self._running[output.request_id]
            asked.take(output, now)
            if output.is_last:
                del self._running[output.request_id]
                self._samples.append(asked.sample(now))
                self._told(self._samples[-1])


def make_engine(config: EngineConfig, adapters: dict[str, str]) -> Engine:
    """An engine that knows `adapters` (digest -> directory), as many resident as fit."""
    engine = Engine(config)
    load_all(engine, adapters.items())
    return engine
