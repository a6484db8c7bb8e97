"""Ends what a request waits for, at its deadline or before it.

One timer for a whole request, as tokens are too many for one each.
"""

import asyncio
from types import TracebackType
from typing import Any, Self

from inference_service.deadline import Deadline
from lorikeet.rpc.errors import LorikeetError


class DeadlineTimer:
    """`with timer:` around each wait of a request; the same one again and again.

    DEADLINE_EXCEEDED out of a wait that is not done in time, or what `end` was given; at once when
    it is too late. Never around a `yield` to gRPC: there, it would hit gRPC's own code.
    """

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._waiting: asyncio.Task[Any] | None = None
        self._has_cancelled = False
        self._error: LorikeetError | None = None
        self._timer = asyncio.get_running_loop().call_at(deadline.moment, self._deadline_passed)

    def end(self, error: LorikeetError) -> None:
        """The request is over: its present wait, or the next one, ends with `error`."""
        if self._error is None:
            self._error = error
            if self._waiting is not None:
                self._has_cancelled = True
                self._waiting.cancel()

    def close(self) -> None:
        """The request has ended."""
        self._timer.cancel()

    def __enter__(self) -> Self:
        if self._error is None and self._deadline.has_passed:
            self._error = self._deadline.error()
        if self._error is not None:
            raise self._error
        self._waiting = asyncio.current_task()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._waiting = self._waiting, None
        if not self._has_cancelled:
            return
        self._has_cancelled = False
        assert task is not None
        assert self._error is not None
        # Somebody else may have cancelled the task as well: then that is what happens.
        if task.uncancel() == 0 and isinstance(error, asyncio.CancelledError):
            raise self._error from error

    def _deadline_passed(self) -> None:
        self.end(self._deadline.error())
