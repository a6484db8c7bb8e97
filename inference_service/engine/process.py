"""The engine in a child process: started, watched, spoken to, and started again when it dies."""

import asyncio
import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable

import msgspec
import zmq
import zmq.asyncio

from inference_service.engine.calls import EngineCalls
from inference_service.engine.client import EngineDiedError
from inference_service.engine.config import EngineConfig
from inference_service.engine.ends import why_ended
from inference_service.engine.request import (
    Command,
    EngineInfo,
    Reply,
    Shutdown,
)

logger = logging.getLogger(__name__)

_STOP_SECONDS = 5.0
_RESTART_SECONDS = 1.0


class ChildEngineClient(EngineCalls):
    """An EngineClient over ZeroMQ on a private Unix socket. See EngineClient for the methods.

    `module` is what runs in the child: a benchmark of the front end has one of its own.
    """

    def __init__(
        self,
        config: EngineConfig,
        on_health_change: Callable[[bool], None] = lambda _: None,
        *,
        module: str = "inference_service.engine",
    ) -> None:
        super().__init__(self._send)
        self._config = config
        self._module = module
        self._on_health_change = on_health_change
        self._directory = tempfile.TemporaryDirectory(prefix="lorikeet-engine-")
        self._context = zmq.Context()
        self._commands: zmq.Socket[bytes] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._info: EngineInfo | None = None

    @property
    def info(self) -> EngineInfo:
        assert self._info is not None, "start() has not returned yet"
        return self._info

    @property
    def process_id(self) -> int | None:
        return self._process.pid if self._process else None

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
        self._directory.cleanup()

    async def _supervise(self, started: asyncio.Future[None]) -> None:
        """One engine after another, until cancelled; the first must start."""
        generation = 0
        try:
            while True:
                generation += 1
                await self._run_once(generation, started)
                if not started.done():
                    started.set_exception(EngineDiedError("the engine did not start; see its log"))
                    return
                logger.error("the engine ended and is started again")
                await asyncio.sleep(_RESTART_SECONDS)
        finally:
            if not started.done():
                started.cancel()

    async def _run_once(self, generation: int, started: asyncio.Future[None]) -> None:
        """From the start of a process to its end, whatever ends it."""
        endpoint = f"ipc://{self._directory.name}/{generation}"
        commands = self._context.socket(zmq.PUSH)
        replies = zmq.asyncio.Context.shadow(self._context).socket(zmq.PULL)
        commands.bind(endpoint + "-commands")
        replies.bind(endpoint + "-replies")
        self._process = process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", self._module, endpoint, str(os.getpid())),
            msgspec.json.encode(self._config).decode(),
        )
        self._commands = commands
        receiver = asyncio.create_task(self._receive(replies, started))
        try:
            self._ends[why_ended(await process.wait())] += 1
        finally:
            self._close(EngineDiedError("the engine ended; it is being started again"))
            self._on_health_change(False)
            receiver.cancel()
            await _stop(process, commands)
            commands.close(linger=0)
            replies.close(linger=0)

    async def _receive(self, socket: zmq.asyncio.Socket, started: asyncio.Future[None]) -> None:
        decoder = msgspec.msgpack.Decoder(Reply)
        while True:
            reply = decoder.decode(await socket.recv())
            if isinstance(reply, EngineInfo):
                self._info = reply
                self._open()
                self._on_health_change(True)
                if not started.done():
                    started.set_result(None)
            else:
                self._dispatch(reply)

    def _send(self, command: Command) -> None:
        """The queue of a PUSH socket to a live engine does not fill: commands are few and small."""
        assert self._commands is not None
        self._commands.send(msgspec.msgpack.encode(command), zmq.NOBLOCK)


async def _stop(process: asyncio.subprocess.Process, commands: "zmq.Socket[bytes]") -> None:
    if process.returncode is not None:
        return
    try:
        commands.send(msgspec.msgpack.encode(Shutdown()), zmq.NOBLOCK)
    except zmq.Again:  # it has not connected yet: it is still importing
        process.kill()
    try:
        await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
