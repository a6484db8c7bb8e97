"""Renders chat templates that tenants supplied in a process that can be ended."""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inference_service import template_rendering
from inference_service.template_rendering import FRAME_HEADER, TemplateRefusedError

_ANSWER_SECONDS = 5.0  # starting the process included; rendering alone gets less


class IsolatedRenderer:
    """Owns at most one worker process, started when first needed and again after it was ended."""

    def __init__(self) -> None:
        self._worker: asyncio.subprocess.Process | None = None
        self._one_at_a_time = asyncio.Lock()

    @property
    def worker_pid(self) -> int | None:
        """The process that renders now, if one was started."""
        return self._worker.pid if self._worker else None

    async def render(
        self,
        source: str,
        messages: Sequence[Mapping[str, Any]],
        special_tokens: Mapping[str, str],
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """The rendered text; TemplateRefusedError when the template is wrong or takes too much."""
        arguments = {
            "source": source,
            "messages": messages,
            "special_tokens": special_tokens,
            "tools": tools,
        }
        request = json.dumps(arguments).encode()
        async with self._one_at_a_time:
            answer = await self._exchange(request)
        if "text" not in answer:
            raise TemplateRefusedError(answer["refused"], answer.get("field", "messages"))
        return answer["text"]

    async def close(self) -> None:
        """Ends the worker and waits for it."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        if worker.returncode is None:
            worker.kill()
        await worker.communicate()  # also closes the pipes

    async def _exchange(self, request: bytes) -> dict[str, str]:
        answered = False
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await self._send(request)
            answered = True
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            return {"refused": "the chat template takes too long or too much memory"}
        finally:
            if not answered:  # the pipes are out of step: also after a cancellation
                await self.close()
        return answer

    async def _send(self, request: bytes) -> dict[str, str]:
        if self._worker is None or self._worker.returncode is not None:
            await self.close()
            self._worker = await _start_worker()
        stdin, stdout = self._worker.stdin, self._worker.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(FRAME_HEADER.pack(len(request)) + request)
        await stdin.drain()
        (length,) = FRAME_HEADER.unpack(await stdout.readexactly(FRAME_HEADER.size))
        answer: dict[str, str] = json.loads(await stdout.readexactly(length))
        return answer


async def _start_worker() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",  # nothing of the environment or the working directory
        str(Path(template_rendering.__file__)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
    )
