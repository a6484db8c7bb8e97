"""Whether the service says that it serves: while nothing speaks against it."""

import asyncio
import logging

from lorikeet.rpc.server import GrpcServer

logger = logging.getLogger(__name__)


class ServingHealth:
    """Reasons not to serve come and go, from any thread; one health is published of them."""

    def __init__(self) -> None:
        """To be made in the event loop that publishes."""
        self._loop = asyncio.get_running_loop()
        self._reasons: dict[str, None] = {}  # in the order in which they came
        self._news = asyncio.Event()

    @property
    def is_serving(self) -> bool:
        return not self._reasons

    def set(self, reason: str, *, against: bool) -> None:
        """`reason` speaks against serving from now on, or no longer does."""
        self._loop.call_soon_threadsafe(self._note, reason, against)

    async def publish(self, server: GrpcServer) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            await server.set_serving(self.is_serving)

    def _note(self, reason: str, against: bool) -> None:
        if (reason in self._reasons) == against:
            return
        if against:
            self._reasons[reason] = None
        else:
            del self._reasons[reason]
        logger.info("health: %s", ", ".join(self._reasons) or "serving")
        self._news.set()
