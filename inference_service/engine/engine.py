"""The engine: commands in, one step at a time, replies out. Only adapter loads have threads."""

from pathlib import Path

import torch

from inference_service.engine.adapter_calls import AdapterCalls
from inference_service.engine.adapter_loader import AdapterSource
from inference_service.engine.admission import Admission
from inference_service.engine.config import EngineConfig
from inference_service.engine.memory import EngineMemory
from inference_service.engine.model_runner import ModelRunner
from inference_service.engine.readiness import Refusal
from inference_service.engine.request import (
    Abort,
    Command,
    DropPrefixes,
    GetStats,
    Load,
    Pin,
    PrefixesDropped,
    Reply,
    StepOutput,
    Submit,
    TokenOutput,
    Unload,
    Unpin,
)
from inference_service.engine.scheduler import Scheduler, SchedulerLimits
from inference_service.engine.self_report import EngineInfo, EngineStats
from inference_service.engine.sequence import Sequence
from inference_service.engine.step_counts import StepCounts
from inference_service.engine.step_pipe import StepPipe
from inference_service.engine.step_plan import ScheduledChunk
from inference_service.engine.step_runner import StepRunner, refused
from inference_service.engine.submission import why_invalid

# Below this, handing work to other threads costs more than they save (docs/performance.md), and
# they are better left to the front end.
_SMALL_MODEL_BYTES = 64 << 20


class Engine:
    """`handle` takes a command, `step` runs a batch; both return the replies to send."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._runner = ModelRunner(config)
        if num_threads := config.num_threads or _num_threads(self._runner.base_weight_bytes):
            torch.set_num_threads(num_threads)
        self._memory = EngineMemory(self._runner, config)
        limits = SchedulerLimits(config.max_num_seqs, config.max_num_batched_tokens)
        memory = self._memory
        self._admission = Admission(memory.blocks, memory.adapters, memory.arena)
        self._scheduler = Scheduler(self._admission, memory.blocks, memory.arena, limits)
        self._steps = StepRunner(self._runner, memory.blocks, memory.cache, self._scheduler)
        self._pipe = StepPipe(self._steps, _overlaps(config.overlap, self._runner), self._observe)
        self._counts = StepCounts()
        largest_request = memory.blocks.num_pages(self._runner.max_model_len)
        self._calls = AdapterCalls(memory, self._admission, largest_request)

    @property
    def info(self) -> EngineInfo:
        runner, config = self._runner, self._config
        return EngineInfo(
            device=runner.description,
            dtype=str(runner.dtype).removeprefix("torch."),
            max_model_len=runner.max_model_len,
            max_lora_rank=config.max_lora_rank,
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=config.max_num_batched_tokens,
            vocab_size=runner.spec.vocab_size,
            base_weight_bytes=runner.base_weight_bytes,
            block_tokens=runner.layout.block_tokens,
            fills_processors=self._memory.pace.fills_processors,
        )

    @property
    def is_idle(self) -> bool:
        """Nothing to run, and nothing in flight: the next step waits for a command."""
        scheduler = self._scheduler
        has_requests = bool(scheduler.num_running or scheduler.num_waiting)
        return self._pipe.is_empty and not (has_requests or self._calls.num_pending)

    @property
    def num_steps(self) -> int:
        """Batches launched so far."""
        return self._steps.num_steps

    def handle(self, command: Command) -> list[Reply]:
        match command:
            case Submit():
                return self._submit(command)
            case Abort(request_id):
                self._scheduler.abort(request_id)
                return []
            case Load(call_id, digest, path, files):
                return self._calls.load(call_id, digest, AdapterSource(Path(path), files))
            case Unload(call_id, digest):
                return [self._calls.unload(call_id, digest)]
            case Pin(call_id, digest):
                return self._calls.pin(call_id, digest)
            case Unpin(call_id, digest):
                return [self._calls.unpin(call_id, digest)]
            case DropPrefixes(call_id, tenant, digest):
                return [PrefixesDropped(call_id, self._memory.drop_prefixes(tenant, digest))]
            case GetStats(call_id):
                return [self._stats(call_id)]
        raise AssertionError(f"unknown command {command}")

    def step(self) -> list[Reply]:
        """Launches one batch, if there is one; replies with what is known by then.

        That is what this batch found, or the one before it where steps overlap.
        """
        news = self._memory.adapters.collect()
        replies = self._calls.answer()
        outputs = [refused(s.request_id, refusal) for s, refusal in self._admission.refuse(news)]
        outputs += self._run()
        self._memory.pace.steps_run = self._scheduler.num_running > 0
        if outputs:
            replies.append(StepOutput(outputs))
        return replies

    def _run(self) -> list[TokenOutput]:
        """What is in flight is finished first where nothing can be launched beside it."""
        outputs = self._pipe.drain() if self._scheduler.is_short_of_pages else []
        chunks = self._scheduler.schedule()
        if not chunks and not self._pipe.is_empty:
            outputs += self._pipe.drain()
            chunks = self._scheduler.schedule()
        self._memory.host.trim(self._calls.awaited)
        return outputs + self._pipe.run(chunks) if chunks else outputs

    def _observe(self, chunks: list[ScheduledChunk], seconds: float) -> None:
        self._counts.add(chunks, seconds)
        self._memory.observe_step(seconds, _num_prefilled(chunks))
        num_decoded = sum(chunk.num_tokens == 1 for chunk in chunks)
        num_prompt = sum(chunk.num_tokens for chunk in chunks) - num_decoded
        self._scheduler.sharing.ran(num_prompt, num_decoded, seconds)

    def close(self) -> None:
        self._memory.close()

    def check_integrity(self) -> None:
        """For tests: every page has exactly one owner."""
        self._memory.check_integrity()

    def _submit(self, submit: Submit) -> list[Reply]:
        refusal = self._why_not(submit)
        if refusal is not None:
            return [StepOutput([refused(submit.request_id, refusal)])]
        self._scheduler.add(Sequence.from_submit(submit))
        return []

    def _why_not(self, submit: Submit) -> Refusal | None:
        digest = submit.adapter_digest
        if digest and not self._memory.adapters.knows(digest):
            return Refusal("ADAPTER_UNKNOWN", f"no adapter {digest} was loaded")
        if self._scheduler.has(submit.request_id):
            return Refusal("INVALID_REQUEST", f"request {submit.request_id} is running already")
        never = self._admission.why_never(digest, submit.max_num_tokens)
        spec = self._runner.spec
        return never or why_invalid(submit, self._runner.max_model_len, spec.vocab_size)

    def _stats(self, call_id: int) -> EngineStats:
        scheduler = self._scheduler
        return self._memory.stats(
            call_id,
            num_running=scheduler.num_running,
            num_waiting=scheduler.num_waiting,
            num_steps=self.num_steps,
            steps=self._counts.reading(),
            num_preemptions=scheduler.num_preemptions,
            num_prefix_hits=self._admission.num_prefix_hits,
            num_prefix_queries=self._admission.num_prefix_queries,
            adapters=self._calls.residencies(),
        )


def _num_prefilled(chunks: list[ScheduledChunk]) -> int:
    """Prompt tokens of a step that did nothing but prefill; else 0."""
    if any(chunk.num_tokens == 1 for chunk in chunks):
        return 0
    return sum(chunk.num_tokens for chunk in chunks)


def _overlaps(option: str, runner: ModelRunner) -> bool:
    """Option: "auto" etc. On a CPU the host's work has nothing to hide behind."""
    return option == "on" or (option == "auto" and runner.device.type == "cuda")


def _num_threads(base_weight_bytes: int) -> int:
    """One for a small model, else torch's choice (0)."""
    return 1 if base_weight_bytes < _SMALL_MODEL_BYTES else 0
