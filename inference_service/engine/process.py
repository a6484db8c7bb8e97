"""The engine in a child process: started, watched, spoken to, and started again when it ends."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import zmq

from inference_service.engine.calls import EngineCalls
from inference_service.engine.child import EngineChild
from inference_service.engine.client import EngineDiedError
from inference_service.engine.config import EngineConfig
from inference_service.engine.ends import EngineEnd, ended_by_itself
from inference_service.engine.request import Command
from inference_service.engine.restart_backoff import RestartBackoff
from inference_service.engine.self_report import EngineInfo
from inference_service.engine.watchdog import Patience, wait_until_stalled

logger = logging.getLogger(__name__)


class ChildEngineClient(EngineCalls):
    """An EngineClient over ZeroMQ on a private Unix socket. See EngineClient for the methods.

    An engine that ended, says what cannot be understood or makes no progress is ended and, after a
    pause that grows, followed by another. `module` is what runs in the child: a benchmark of the
    front end has one of its own.
    """

    def __init__(
        self,
        config: EngineConfig,
        on_health_change: Callable[[bool], None] = lambda _: None,
        *,
        patience: Patience = Patience(),  # noqa: B008  (frozen)
        module: str = "inference_service.engine",
    ) -> None:
        super().__init__(self._send)
        self._config = config
        self._patience = patience
        self._module = module
        self._on_health_change = on_health_change
        self._context = zmq.Context()
        self._backoff = RestartBackoff()
        self._child: EngineChild | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._info: EngineInfo | None = None
        self._began = 0.0  # the process that runs now, and when it was ready
        self._ready_at: float | None = None
        self._start_seconds = 0.0  # what the last one took to be ready

    @property
    def info(self) -> EngineInfo:
        assert self._info is not None, "start() has not returned yet"
        return self._info

    @property
    def process_id(self) -> int | None:
        return self._child.pid if self._child else None

    async def start(self) -> None:
        """Raises EngineDiedError when the first start fails, for instance on a bad checkpoint."""
        started = asyncio.get_running_loop().create_future()
        self._supervisor = asyncio.create_task(self._supervise(started))
        await started

    async def close(self) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
        self._context.destroy(linger=0)

    async def _supervise(self, started: asyncio.Future[None]) -> None:
        """One engine after another, until cancelled; the first must start."""
        try:
            while True:
                pause = await self._run_once(started)
                if not started.done():
                    started.set_exception(EngineDiedError("the engine did not start; see its log"))
                    return
                logger.info("the engine is started again in %.1f s", pause)
                await asyncio.sleep(pause)
        finally:
            self._close(EngineDiedError("the engine was closed"))
            if not started.done():
                started.cancel()

    async def _run_once(self, started: asyncio.Future[None]) -> float:
        """From the start of a process to its end; returns the seconds to wait before the next."""
        child = self._child = EngineChild(self._context)
        self._began, self._ready_at = time.monotonic(), None
        is_over = False
        try:
            await child.start(self._module, self._config)
            end = await _first(_exit(child), self._receive(child, started), self._stall())
            is_over = True
            return self._ended(end)
        finally:
            self._ready.clear()
            self._on_health_change(False)
            await child.stop(at_once=is_over)

    def _ended(self, end: EngineEnd) -> float:
        """Ends what waits for this engine, and tells it when there will be another."""
        now = time.monotonic()
        lived = 0.0
        if self._ready_at is not None:
            lived = now - self._ready_at
            self._start_seconds = self._ready_at - self._began
        pause = self._backoff.next(lived)
        self._ends[end.reason] += 1
        logger.error("the engine is down: %s", end.message)
        self._close(
            EngineDiedError(
                "the engine ended and is being started again",
                retry_at=now + pause + self._start_seconds,
            )
        )
        return pause

    async def _receive(self, child: EngineChild, started: asyncio.Future[None]) -> EngineEnd:
        try:
            async for reply in child.replies():
                if isinstance(reply, EngineInfo):
                    self._is_ready(reply)
                    if not started.done():
                        started.set_result(None)
                else:
                    self._dispatch(reply)
        except msgspec.DecodeError as error:
            return EngineEnd("unreadable", f"it sent what cannot be read: {error}")
        raise AssertionError("replies have no end")

    def _is_ready(self, info: EngineInfo) -> None:
        self._info = info
        self._ready_at = time.monotonic()
        self._ready.set()
        self._open()
        self._on_health_change(True)

    async def _stall(self) -> EngineEnd:
        patience = self._patience
        try:
            async with asyncio.timeout(patience.start_seconds):
                await self._ready.wait()
        except TimeoutError:
            return EngineEnd("stalled", f"it was not ready in {patience.start_seconds:g} s")
        await wait_until_stalled(self.stats, patience.stall_seconds)
        return EngineEnd("stalled", f"it made no progress in {patience.stall_seconds:g} s")

    def _send(self, command: Command) -> None:
        assert self._child is not None
        self._child.send(command)


async def _exit(child: EngineChild) -> EngineEnd:
    return ended_by_itself(await child.wait())


async def _first(*coroutines: Coroutine[Any, Any, EngineEnd]) -> EngineEnd:
    """The result of whichever is done first; the others are cancelled."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
