"""One engine process and the sockets to it, from its start to its end."""

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator

import msgspec
import zmq
import zmq.asyncio

from inference_service.engine.child_log import MAX_LINE_BYTES, relay_log
from inference_service.engine.client import EngineDiedError
from inference_service.engine.config import EngineConfig
from inference_service.engine.request import Command, Reply, Shutdown

_STOP_SECONDS = 5.0
_LOG_SECONDS = 1.0  # for the last lines of a process that has ended
# Far more than there are requests: an engine that leaves so many unread has stopped reading.
_MAX_COMMANDS = 10_000
# Steps that the front end has not read yet; then the engine waits for it.
_MAX_REPLIES = 1000


class EngineChild:
    """`python -m <module>` with two sockets on a private path; used once.

    The path goes as soon as the child is connected, which is before its first reply: nobody else
    can connect then, and nothing is left of it if this process is killed.
    """

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="lorikeet-engine-")
        self._endpoint = endpoint = f"ipc://{self._directory.name}/engine"
        self._commands = context.socket(zmq.PUSH)
        self._replies = zmq.asyncio.Context.shadow(context).socket(zmq.PULL)
        self._commands.sndhwm = _MAX_COMMANDS
        self._replies.rcvhwm = _MAX_REPLIES
        self._commands.bind(endpoint + "-commands")
        self._replies.bind(endpoint + "-replies")
        self._process: asyncio.subprocess.Process | None = None
        self._log: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def start(self, module: str, config: EngineConfig) -> None:
        """Returns when the process is there; its first reply comes when its model is loaded."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, self._endpoint, str(os.getpid())),
            msgspec.json.encode(config).decode(),
            stderr=asyncio.subprocess.PIPE,
            limit=MAX_LINE_BYTES,
        )
        assert self._process.stderr is not None
        self._log = asyncio.create_task(relay_log(self._process.stderr))

    def send(self, command: Command) -> None:
        """EngineDiedError when nobody takes it: the process is gone, or has stopped reading."""
        try:
            self._commands.send(msgspec.msgpack.encode(command), zmq.NOBLOCK)
        except zmq.Again as error:
            raise EngineDiedError("the engine takes no commands") from error

    async def replies(self) -> AsyncIterator[Reply]:
        """Until cancelled; msgspec.DecodeError for a message that is none of ours."""
        decoder = msgspec.msgpack.Decoder(Reply)
        message = await self._replies.recv()
        self._directory.cleanup()
        while True:
            yield decoder.decode(message)
            message = await self._replies.recv()

    async def wait(self) -> int:
        """Its exit status once it has ended by itself, negative for a signal."""
        assert self._process is not None
        return await self._process.wait()

    async def stop(self, *, at_once: bool = False) -> None:
        """Asks it to end, unless it must not be waited for; then kills it. Closes the sockets."""
        try:
            await self._end(at_once)
            if self._log is not None:
                await asyncio.wait([self._log], timeout=_LOG_SECONDS)
        finally:
            if self._log is not None:
                self._log.cancel()
            self._commands.close(linger=0)
            self._replies.close(linger=0)
            self._directory.cleanup()

    async def _end(self, at_once: bool) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        if not at_once:
            with contextlib.suppress(EngineDiedError, TimeoutError):  # it may still be importing
                self.send(Shutdown())
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
                return
        process.kill()  # a process that is stopped ends of it too
        await process.wait()
