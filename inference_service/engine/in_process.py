"""The engine on a thread of this process: for tests, notebooks and profilers."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable

from inference_service.engine.calls import EngineCalls
from inference_service.engine.client import EngineDiedError
from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.engine.loop import run_engine
from inference_service.engine.out_of_memory import is_out_of_memory
from inference_service.engine.request import Command, Reply, Shutdown
from inference_service.engine.self_report import EngineInfo


class InProcessEngineClient(EngineCalls):
    """An EngineClient without a second process. See EngineClient for the methods."""

    def __init__(
        self, config: EngineConfig, on_health_change: Callable[[bool], None] = lambda _: None
    ) -> None:
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        super().__init__(self._commands.put)
        self._on_health_change = on_health_change
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.engine = Engine(config)

    @property
    def info(self) -> EngineInfo:
        return self.engine.info

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        self._open()
        self._on_health_change(True)

    async def close(self) -> None:
        self._commands.put(Shutdown())
        await asyncio.to_thread(self._thread.join)
        self._close(EngineDiedError("the engine was closed"))

    def _run(self) -> None:
        try:
            run_engine(self.engine, self._receive, self._send)
        except BaseException as error:
            self._ends["out_of_memory" if is_out_of_memory(error) else "failed"] += 1
            died = EngineDiedError(f"the engine failed: {error!r}")
            self._loop.call_soon_threadsafe(self._close, died)
            self._loop.call_soon_threadsafe(self._on_health_change, False)
            raise

    def _receive(self, timeout: float) -> Command | None:
        with contextlib.suppress(queue.Empty):
            return self._commands.get(timeout=timeout) if timeout else self._commands.get_nowait()
        return None

    def _send(self, reply: Reply) -> None:
        self._loop.call_soon_threadsafe(self._dispatch, reply)
