"""Frees the engine of requests whose reader has stopped reading, or has gone."""

import asyncio
from types import TracebackType
from typing import Any, Self

from grpc import aio

from inference_service.output_streams import OutputStreams
from lorikeet.rpc.errors import LorikeetError, ResourceExhaustedError


class ReaderWatch:
    """Watches one stream while it waits for its reader.

    A handler that yields to gRPC is not running: a reader that blocks it, or a cancellation that
    comes meanwhile, is not seen inside it. So the engine's outputs are closed from here.
    """

    def __init__(self, context: aio.ServicerContext[Any, Any], *, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._loop = asyncio.get_running_loop()
        self._outputs: OutputStreams | None = None
        self._sending_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._error: LorikeetError | None = None
        context.add_done_callback(self._call_ended)  # type: ignore[arg-type]  # stub is older

    def sending(self, outputs: OutputStreams) -> Self:
        """Around each `yield`; RESOURCE_EXHAUSTED SLOW_READER after it if it took too long."""
        self._outputs = outputs
        return self

    def end(self, error: LorikeetError) -> None:
        """The request is over, also while its reader blocks it: `error` comes after the send."""
        self._error = error
        if self._sending_since is not None:
            self._close_engine_side()

    def __enter__(self) -> None:
        self._sending_since = self._loop.time()
        if self._timer is None:  # else the one that runs looks again
            self._set_timer(self._sending_since)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._sending_since = None
        if self._closing is not None:
            raise self._error or ResourceExhaustedError(
                f"the response was not read for {self._max_seconds:g} seconds",
                reason="SLOW_READER",
            )

    def _set_timer(self, since: float) -> None:
        self._timer = self._loop.call_at(since + self._max_seconds, self._look)

    def _look(self) -> None:
        """One timer serves many sends: it runs on from the one that is under way."""
        self._timer = None
        since = self._sending_since
        if since is None:
            return
        if self._loop.time() < since + self._max_seconds:
            self._set_timer(since)
        else:
            self._close_engine_side()

    def _call_ended(self, _: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._sending_since is not None:
            self._close_engine_side()

    def _close_engine_side(self) -> None:
        if self._outputs is not None and self._closing is None:
            self._closing = self._loop.create_task(self._outputs.aclose())
