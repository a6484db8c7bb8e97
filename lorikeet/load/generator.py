"""Asks what was planned, and notes when each answer came."""

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Final

from lorikeet.client import AsyncClient
from lorikeet.load.prompts import Prompts
from lorikeet.load.sample import Arrival, Sample
from lorikeet.load.workload import PlannedRequest
from lorikeet.rpc.errors import LorikeetError

_MAX_OPEN: Final = 4096  # requests at a time: an overloaded service must not drown this process
# How often the event loop is asked whether it is late. Each time takes a service on the same
# cores out of its step: 50 a second cost it a hundredth.
_LAG_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Measured:
    """All samples of a run. `lags`: by how many seconds this process was late, now and then."""

    samples: tuple[Sample, ...]
    seconds: float
    lags: tuple[float, ...]


class LoadGenerator:
    """Runs one load at a time; `told` hears of every request that ended, as it ends."""

    def __init__(
        self,
        client: AsyncClient,
        prompts: Prompts,
        max_model_len: int,
        told: Callable[[Sample], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._prompts = prompts
        self._max_model_len = max_model_len
        self._told = told
        self._samples: list[Sample] = []

    async def closed(
        self, requests: Iterator[PlannedRequest], concurrency: int, seconds: float | None = None
    ) -> Measured:
        """So many at once, the next begins when one ends; after `seconds` none begins any more."""
        began = time.monotonic()

        async def ask_on() -> None:
            for request in requests:
                if seconds is not None and time.monotonic() - began >= seconds:
                    return
                await self._ask(request, due=time.monotonic())

        return await self._measured(began, *(ask_on() for _ in range(concurrency)))

    async def opened(self, requests: Iterator[PlannedRequest]) -> Measured:
        """Each begins when it is due, whatever became of those before; the first at once."""
        first = next(requests)
        began = time.monotonic() - first.due

        async def ask_when_due() -> None:
            slots = asyncio.Semaphore(_MAX_OPEN)

            async def ask(request: PlannedRequest) -> None:
                async with slots:
                    await self._ask(request, due=began + request.due)

            async with asyncio.TaskGroup() as group:
                for request in itertools.chain([first], requests):
                    await asyncio.sleep(max(0.0, began + request.due - time.monotonic()))
                    group.create_task(ask(request))

        return await self._measured(began + first.due, ask_when_due())

    async def _measured(self, began: float, *work: Coroutine[Any, Any, None]) -> Measured:
        self._samples, lags = [], list[float]()
        watching = asyncio.create_task(_watch_lag(lags))
        try:
            await asyncio.gather(*work)
        finally:
            watching.cancel()
        return Measured(tuple(self._samples), time.monotonic() - began, tuple(lags))

    async def _ask(self, request: PlannedRequest, *, due: float) -> None:
        arrivals: list[Arrival] = []
        prompt_tokens, output_tokens = self._fitted(request)
        prompt = self._prompts.prompt(request.number, prompt_tokens)
        failure, cached_tokens, sent = "", 0, time.monotonic()
        stream = self._client.generate_stream(
            prompt,
            request.adapter,
            tenant=request.tenant,
            max_tokens=output_tokens,
            ignore_eos=True,
            temperature=0.0,
        )
        try:
            async with stream:  # closed if this is cancelled
                async for chunk in stream:
                    at = time.monotonic()
                    if chunk.token_ids:
                        arrivals.append(Arrival(at, len(chunk.token_ids)))
            assert stream.completion is not None, "a stream that ends well has one"
            cached_tokens = stream.completion.usage.cached_tokens
        except LorikeetError as error:
            failure = error.reason
        sample = Sample(
            request=request,
            due=due,
            sent=sent,
            ended=time.monotonic(),
            arrivals=tuple(arrivals),
            failure=failure,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            cached_tokens=cached_tokens,
        )
        self._samples.append(sample)
        self._told(sample)

    def _fitted(self, request: PlannedRequest) -> tuple[int, int]:
        """Lengths that the model has room for: the output is cut first, then the prompt."""
        prompt = min(request.prompt_tokens, self._max_model_len - 1)
        return prompt, min(request.output_tokens, self._max_model_len - prompt)


async def _watch_lag(lags: list[float]) -> None:
    while True:
        asked = time.monotonic()
        await asyncio.sleep(_LAG_SECONDS)
        lags.append(time.monotonic() - asked - _LAG_SECONDS)
