"""Frees the engine of requests whose reader has stopped reading, or has gone."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from grpc import aio

from inference_service.output_streams import OutputStreams
from lorikeet.rpc.errors import ResourceExhaustedError


class ReaderWatch:
    """Watches one stream while it waits for its reader.

    A handler that yields to gRPC is not running: a reader that blocks it, or a cancellation that
    comes meanwhile, is not seen inside it. So the engine's outputs are closed from here.
    """

    def __init__(self, context: aio.ServicerContext[Any, Any], *, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._loop = asyncio.get_running_loop()
        self._sending: OutputStreams | None = None
        self._closing: asyncio.Task[None] | None = None
        context.add_done_callback(self._call_ended)  # type: ignore[arg-type]  # stub is older

    @contextmanager
    def sending(self, outputs: OutputStreams) -> Iterator[None]:
        """Around each `yield`; RESOURCE_EXHAUSTED SLOW_READER after it if it took too long."""
        self._sending = outputs
        timer = self._loop.call_later(self._max_seconds, self._close_engine_side)
        try:
            yield
        finally:
            timer.cancel()
            self._sending = None
        if self._closing is not None:
            raise ResourceExhaustedError(
                f"the response was not read for {self._max_seconds:g} seconds",
                reason="SLOW_READER",
            )

    def _call_ended(self, _: Any) -> None:
        self._close_engine_side()

    def _close_engine_side(self) -> None:
        if self._sending is not None and self._closing is None:
            self._closing = self._loop.create_task(self._sending.aclose())
