"""An engine that says what a test tells it to: the front end does the rest."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from inference_service.engine.adapter_files import AdapterCorruptError, read_file
from inference_service.engine.client import EngineDiedError, EngineRefusedError
from inference_service.engine.config import EngineConfig
from inference_service.engine.request import (
    DeclaredFile,
    SamplingOptions,
    TokenLogprob,
    TokenOutput,
)
from inference_service.engine.self_report import (
    AdapterResidency,
    DeviceMemory,
    EngineInfo,
    EngineStats,
)
from inference_service.engine.step_counts import StepCounts

Step = TokenOutput | Exception | float
"""An output, an error to raise, or seconds to wait."""

INFO = EngineInfo(
    device="cpu",
    dtype="float32",
    max_model_len=128,
    max_lora_rank=64,
    max_num_seqs=8,
    max_num_batched_tokens=256,
    vocab_size=600,
    base_weight_bytes=1000,
    block_tokens=16,
)


def tokens(*token_ids: int, finish: str = "") -> TokenOutput:
    return TokenOutput(request_id=0, token_ids=list(token_ids), finish_reason=finish)


def logprob_of(token_id: int, num_top: int = 1) -> TokenLogprob:
    """Figures that tell which token they are of."""
    top_ids = [token_id + 1 + place for place in range(num_top)]
    return TokenLogprob(token_id, -token_id / 8, token_id, top_ids, [-each / 8 for each in top_ids])


def steps_of(token_ids: Sequence[int], *, finish: str = "length") -> list[Step]:
    """One token a step."""
    last = len(token_ids) - 1
    return [
        tokens(token_id, finish=finish if index == last else "")
        for index, token_id in enumerate(token_ids)
    ]


@dataclass
class ScriptedCall:
    """One `generate`, as the engine saw it."""

    prompt_token_ids: list[int]
    sampling: SamplingOptions
    adapter_digest: str
    tenant: str
    priority: int = 0
    weight: float = 1.0
    num_outputs: int = 0
    closed: bool = False


class ScriptedEngine:
    """Plays `steps` to every request, `scripts` to the first; remembers what it was asked."""

    def __init__(self) -> None:
        self.info = INFO
        self.is_alive = False
        self.steps: list[Step] = steps_of([70, 71, 72])
        self.scripts: list[list[Step]] = []
        self.calls: list[ScriptedCall] = []
        self.paths: dict[str, Path] = {}
        self.pinned: set[str] = set()
        self.dropped: list[tuple[str | None, str | None]] = []
        self.load_error: Exception | None = None
        self.load_errors: dict[str, Exception] = {}
        self.load_seconds = 0.0
        self.num_loads = 0
        self.start_error: Exception | None = None
        self.closed = False
        self.ends = {"failed": 0}
        self._died = asyncio.Event()
        self._on_health_change: Callable[[bool], None] = lambda _: None

    def attach(
        self, config: EngineConfig, on_health_change: Callable[[bool], None]
    ) -> "ScriptedEngine":
        """As a factory of engines: this one."""
        self.config, self._on_health_change = config, on_health_change
        if config.max_model_len:
            self.info = structs.replace(INFO, max_model_len=config.max_model_len)
        return self

    def reset(self, steps: list[Step]) -> None:
        """As new, but for the adapters it knows."""
        self.steps, self.scripts = steps, []
        self.calls.clear()
        self.dropped.clear()
        self.load_error, self.load_seconds = None, 0.0
        self.load_errors, self.num_loads = {}, 0
        if not self.is_alive:
            self.restart()

    def check_alive(self) -> None:
        if not self.is_alive:
            raise EngineDiedError("it was told to")

    async def start(self) -> None:
        if self.start_error:
            raise self.start_error
        self.is_alive = True

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
        call = ScriptedCall(prompt_token_ids, sampling, adapter_digest, tenant, priority, weight)
        number = len(self.calls)
        self.calls.append(call)
        if adapter_digest and adapter_digest not in self.paths:
            raise EngineRefusedError("ADAPTER_UNKNOWN", adapter_digest)
        try:
            for step in self.scripts[number] if number < len(self.scripts) else self.steps:
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, float):
                    await self._wait(step)
                else:
                    call.num_outputs += 1
                    yield step
        finally:
            call.closed = True

    async def load_adapter(
        self, digest: str, path: Path, files: Mapping[str, DeclaredFile]
    ) -> AdapterResidency:
        await self._wait(self.load_seconds)
        if self.load_error:
            raise self.load_error
        found_on = "device" if digest in self.paths else "disk"
        self.num_loads += 1
        if digest in self.load_errors:
            raise self.load_errors[digest]
        try:
            for name in files:
                read_file(path / name, files)
        except AdapterCorruptError as error:
            raise EngineRefusedError("ARTIFACT_CORRUPT", str(error)) from error
        self.paths[digest] = path
        return structs.replace(self._residency(digest), found_on=found_on)

    async def unload_adapter(self, digest: str) -> int:
        if self._num_running(digest):
            raise EngineRefusedError("ADAPTER_IN_USE", digest)
        if self.paths.pop(digest, None) is None:
            raise EngineRefusedError("ADAPTER_UNKNOWN", digest)
        return 3

    async def pin_adapter(self, digest: str) -> AdapterResidency:
        self.pinned.add(digest)
        return self._residency(digest)

    async def unpin_adapter(self, digest: str) -> AdapterResidency:
        if digest not in self.paths:
            raise EngineRefusedError("ADAPTER_UNKNOWN", digest)
        self.pinned.discard(digest)
        return self._residency(digest)

    async def drop_prefixes(self, tenant: str | None, adapter_digest: str | None) -> int:
        self.dropped.append((tenant, adapter_digest))
        return 0

    async def stats(self) -> EngineStats:
        self.check_alive()
        return EngineStats(
            call_id=0,
            page_bytes=16,
            total_pages=10,
            free_pages=10 - 3 * len(self.paths),
            kv_pages=0,
            adapter_pages=3 * len(self.paths),
            num_running=sum(not call.closed for call in self.calls),
            num_waiting=0,
            num_steps=7,
            steps=StepCounts().reading(),
            adapters=[self._residency(digest) for digest in self.paths],
            device_memory=DeviceMemory(100, 60, 20),
        )

    async def close(self) -> None:
        self.closed = True
        self.die()

    def die(self) -> None:
        """Ends as a crash does: everything that waits hears of it, and all adapters are gone."""
        self.is_alive = False
        self.ends["failed"] += 1
        self.paths.clear()
        self.pinned.clear()
        self._died.set()
        self._on_health_change(False)

    def restart(self) -> None:
        self._died = asyncio.Event()
        self.is_alive = True
        self._on_health_change(True)

    async def _wait(self, seconds: float) -> None:
        if seconds:
            try:
                async with asyncio.timeout(seconds):
                    await self._died.wait()
            except TimeoutError:
                return
            raise EngineDiedError("it was told to")

    def _residency(self, digest: str) -> AdapterResidency:
        return AdapterResidency(
            digest=digest,
            tier="device",
            pages=3,
            size_bytes=48,
            rank=2,
            running_requests=self._num_running(digest),
            pinned=digest in self.pinned,
        )

    def _num_running(self, digest: str) -> int:
        return sum(call.adapter_digest == digest and not call.closed for call in self.calls)
