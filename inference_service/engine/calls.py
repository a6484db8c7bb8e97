"""The client's side of the conversation with an engine: who waits for which reply."""

import asyncio
import contextlib
import copy
import itertools
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path

from inference_service.engine.client import EngineDiedError, EngineRefusedError
from inference_service.engine.ends import END_REASONS
from inference_service.engine.mailbox import Mailbox
from inference_service.engine.request import (
    Abort,
    Command,
    DeclaredFile,
    DropPrefixes,
    GetStats,
    Load,
    Loaded,
    Pin,
    PrefixesDropped,
    Refused,
    Reply,
    SamplingOptions,
    StepOutput,
    Submit,
    TokenOutput,
    Unload,
    Unloaded,
    Unpin,
)
from inference_service.engine.self_report import AdapterResidency, EngineInfo, EngineStats

_Answer = Loaded | Unloaded | PrefixesDropped | EngineStats


class EngineCalls:
    """Matches replies to calls and streams: what both engine clients have in common.

    See EngineClient for the methods. Closed until the engine is up, and after it died. Holds an
    entry for each call that waits and each completion that runs: the server bounds how many.
    """

    def __init__(self, send: Callable[[Command], None]) -> None:
        self._send_command = send
        self._ends = dict.fromkeys(END_REASONS, 0)
        self._numbers = itertools.count(1)
        self._streams: dict[int, Mailbox] = {}
        self._answers: dict[int, asyncio.Future[_Answer]] = {}
        self._closed_by: Exception | None = EngineDiedError("the engine is starting")

    @property
    def is_alive(self) -> bool:
        return self._closed_by is None

    @property
    def ends(self) -> Mapping[str, int]:
        return self._ends

    def _open(self) -> None:
        self._closed_by = None

    def _close(self, reason: Exception) -> None:
        """Ends every waiting call and stream with `reason`, and refuses new ones."""
        self._closed_by = reason
        for mailbox in self._streams.values():
            mailbox.end(_again(reason))
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(_again(reason))
        self._streams.clear()
        self._answers.clear()

    def _dispatch(self, reply: Reply) -> None:
        match reply:
            case StepOutput(outputs):
                for output in outputs:
                    mailbox = self._streams.get(output.request_id)
                    if mailbox is not None:  # else aborted while the step ran
                        mailbox.put(output)
            case Refused(call_id, reason, message):
                self._resolve(call_id, EngineRefusedError(reason, message))
            case Loaded() | Unloaded() | PrefixesDropped() | EngineStats():
                self._resolve(reply.call_id, reply)
            case EngineInfo():
                raise AssertionError("consumed by whoever starts the engine")

    async def generate(
        self,
        prompt_token_ids: list[int],
        sampling: SamplingOptions,
        adapter_digest: str,
        tenant: str,
        *,
        priority: int = 0,
        weight: float = 1.0,
    ) -> AsyncGenerator[TokenOutput, None]:
        self.check_alive()
        request_id = next(self._numbers)
        mailbox = self._streams[request_id] = Mailbox()
        ended = False
        try:
            self._send_command(
                Submit(
                    request_id,
                    prompt_token_ids,
                    sampling,
                    adapter_digest,
                    tenant,
                    priority=priority,
                    weight=weight,
                )
            )
            while not ended:
                output = await mailbox.take()
                ended = output.is_last
                if output.refusal:
                    raise EngineRefusedError(output.refusal, output.error)
                yield output
        finally:
            self._streams.pop(request_id, None)
            if not ended and self.is_alive:
                with contextlib.suppress(EngineDiedError):  # then it has none to abort
                    self._send_command(Abort(request_id))

    async def load_adapter(
        self, digest: str, path: Path, files: Mapping[str, DeclaredFile]
    ) -> AdapterResidency:
        answer = await self._call(lambda number: Load(number, digest, str(path), dict(files)))
        assert isinstance(answer, Loaded)
        return answer.adapter

    async def pin_adapter(self, digest: str) -> AdapterResidency:
        answer = await self._call(lambda number: Pin(number, digest))
        assert isinstance(answer, Loaded)
        return answer.adapter

    async def unpin_adapter(self, digest: str) -> AdapterResidency:
        answer = await self._call(lambda number: Unpin(number, digest))
        assert isinstance(answer, Loaded)
        return answer.adapter

    async def unload_adapter(self, digest: str) -> int:
        answer = await self._call(lambda number: Unload(number, digest))
        assert isinstance(answer, Unloaded)
        return answer.freed_pages

    async def drop_prefixes(self, tenant: str | None, adapter_digest: str | None) -> int:
        answer = await self._call(lambda number: DropPrefixes(number, tenant, adapter_digest))
        assert isinstance(answer, PrefixesDropped)
        return answer.num_blocks

    async def stats(self) -> EngineStats:
        answer = await self._call(GetStats)
        assert isinstance(answer, EngineStats)
        return answer

    async def _call(self, make: Callable[[int], Command]) -> _Answer:
        self.check_alive()
        number = next(self._numbers)
        answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            self._send_command(make(number))
            return await answer
        finally:
            self._answers.pop(number, None)

    def _resolve(self, call_id: int, result: _Answer | Exception) -> None:
        answer = self._answers.get(call_id)
        if answer is None or answer.done():
            return  # its caller has gone
        if isinstance(result, Exception):
            answer.set_exception(result)
        else:
            answer.set_result(result)

    def check_alive(self) -> None:
        if self._closed_by is not None:
            raise _again(self._closed_by)


def _again(reason: Exception) -> Exception:
    """Each is raised on its own: one that is shared would collect the tracebacks of all."""
    return copy.copy(reason)
