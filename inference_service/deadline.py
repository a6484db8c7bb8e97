"""When a request must have ended: the caller's own deadline, or the longest this server allows."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final, Self

from grpc import aio

from lorikeet.rpc.errors import DeadlineExceededError

# A caller that gives up by itself does not hear why: it is answered so much earlier.
_ANSWER_SECONDS: Final = 0.02


@dataclass(frozen=True)
class Deadline:
    """A moment of the event loop's clock, and whose it is."""

    moment: float
    is_callers: bool

    @classmethod
    def of(cls, context: aio.ServicerContext[Any, Any], max_seconds: float) -> Self:
        """The earlier of the two; for a caller that set none, the server's."""
        now = asyncio.get_running_loop().time()
        seconds_left: float | None = context.time_remaining()
        if seconds_left is None or seconds_left > max_seconds:
            return cls(now + max_seconds, is_callers=False)
        return cls(now + seconds_left - _ANSWER_SECONDS, is_callers=True)

    @property
    def has_passed(self) -> bool:
        return asyncio.get_running_loop().time() >= self.moment

    def error(self) -> DeadlineExceededError:
        if self.is_callers:
            return DeadlineExceededError("the request's own deadline passed")
        return DeadlineExceededError(
            "the request took longer than this server allows", reason="MAX_REQUEST_TIME"
        )
