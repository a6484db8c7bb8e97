"""Until the warm adapters are loaded, this replica says that it does not serve."""

import asyncio
import logging

from inference_service.serving_health import ServingHealth
from inference_service.warm.warm_set import WarmSet

logger = logging.getLogger(__name__)

_REASON = "warm adapters are being loaded"


class WarmUp:
    """Speaks against serving from `begin` until the set is settled, or `timeout` seconds later."""

    def __init__(self, warm_set: WarmSet, health: ServingHealth, timeout: float) -> None:
        self._warm_set, self._health, self._timeout = warm_set, health, timeout
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        if self._task is None or self._task.done():
            self._health.set(_REASON, against=True)
            self._task = asyncio.create_task(self._wait())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._warm_set.settled.wait()
        except TimeoutError:
            missing = ", ".join(self._warm_set.unready()) or "the list of them"
            logger.error("serving although it took too long to load: %s", missing)
        self._health.set(_REASON, against=False)
