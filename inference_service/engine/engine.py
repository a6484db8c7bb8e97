"""The engine: commands in, one step at a time, replies out. Only adapter loads have a thread."""

from collections import defaultdict
from pathlib import Path

import torch

from inference_service.engine.adapter_cache import AdapterCache
from inference_service.engine.adapter_loader import AdapterLoader
from inference_service.engine.adapter_manager import AdapterManager, Readiness, Refusal
from inference_service.engine.block_manager import BlockManager
from inference_service.engine.config import EngineConfig
from inference_service.engine.model_runner import ModelRunner
from inference_service.engine.page_pool import PagePool, PageUse
from inference_service.engine.request import (
    Abort,
    AdapterResidency,
    Command,
    EngineInfo,
    EngineStats,
    GetStats,
    Load,
    Loaded,
    Refused,
    Reply,
    StepOutput,
    Submit,
    Unload,
    Unloaded,
)
from inference_service.engine.scheduler import Scheduler
from inference_service.engine.sequence import Sequence
from inference_service.engine.step_runner import StepRunner, refused

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
        layout = self._runner.layout
        self._pool = PagePool(self._runner.arena.shape[0])
        self._blocks = BlockManager(self._pool, layout.block_tokens)
        loader = AdapterLoader(
            self._runner.spec, layout.page_elems, self._runner.dtype, config.max_lora_rank
        )
        self._cache = AdapterCache(self._pool, self._runner.arena)
        self._adapters = AdapterManager(self._pool, self._cache, loader)
        self._scheduler = Scheduler(
            self._blocks, self._adapters, config.max_num_seqs, config.max_num_batched_tokens
        )
        self._steps = StepRunner(self._runner, self._blocks, self._cache, self._scheduler)
        self._pending_loads: defaultdict[str, list[int]] = defaultdict(list)

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
        )

    @property
    def is_idle(self) -> bool:
        """Nothing to run: the next step waits for a command."""
        return not (
            self._scheduler.num_running or self._scheduler.num_waiting or self._pending_loads
        )

    def handle(self, command: Command) -> list[Reply]:
        match command:
            case Submit():
                return self._submit(command)
            case Abort(request_id):
                self._scheduler.abort(request_id)
                return []
            case Load(call_id, digest, path):
                self._adapters.add(digest, Path(path))
                self._pending_loads[digest].append(call_id)
                return self._finish_loads()
            case Unload():
                return [self._unload(command)]
            case GetStats(call_id):
                return [self._stats(call_id)]
        raise AssertionError(f"unknown command {command}")

    @property
    def num_steps(self) -> int:
        """Batches run so far."""
        return self._steps.num_steps

    def step(self) -> list[Reply]:
        """Runs one batch, if there is one."""
        self._adapters.collect()
        replies = self._finish_loads()
        outputs = [
            refused(sequence, self._adapters.refusal(sequence.adapter_digest))
            for sequence in self._scheduler.remove_failed()
        ]
        chunks = self._scheduler.schedule()
        self._adapters.drop_images(self._scheduler.wanted_adapters)
        if chunks:
            outputs += self._steps.run(chunks)
        if outputs:
            replies.append(StepOutput(outputs))
        return replies

    def close(self) -> None:
        self._adapters.close()

    def check_integrity(self) -> None:
        """For tests: every page has exactly one owner."""
        self._pool.check_integrity()
        self._blocks.check_integrity()
        self._cache.check_integrity()

    def _submit(self, submit: Submit) -> list[Reply]:
        sequence, digest = Sequence.from_submit(submit), submit.adapter_digest
        if digest and not self._adapters.knows(digest):
            refusal = Refusal("ADAPTER_UNKNOWN", f"no adapter {digest} was loaded")
            return [StepOutput([refused(sequence, refusal)])]
        needed = self._blocks.num_pages(sequence.max_num_tokens)
        needed += self._adapters.num_pages(digest) if digest else 0
        if needed > self._pool.num_pages:
            message = f"the request may need {needed} pages, the arena has {self._pool.num_pages}"
            return [StepOutput([refused(sequence, Refusal("OUT_OF_PAGES", message))])]
        self._scheduler.add(sequence)
        return []

    def _finish_loads(self) -> list[Reply]:
        """Answers the load calls whose adapter is as far as it will get for now."""
        replies: list[Reply] = []
        # A load only makes an adapter ready sooner: it takes no page from one that is waited for.
        spared = self._scheduler.wanted_adapters if self._pending_loads else ()
        for digest in tuple(self._pending_loads):
            readiness = self._adapters.prepare(digest, spared)
            if readiness is Readiness.LOADING:
                continue
            for call_id in self._pending_loads.pop(digest):
                if readiness is Readiness.FAILED:
                    refusal = self._adapters.refusal(digest)
                    replies.append(Refused(call_id, refusal.reason, refusal.message))
                else:
                    replies.append(Loaded(call_id, self._residency(digest)))
        return replies

    def _unload(self, command: Unload) -> Reply:
        digest = command.digest
        if not self._adapters.knows(digest):
            return Refused(command.call_id, "ADAPTER_UNKNOWN", f"{digest} is not loaded")
        num_users = self._scheduler.num_users(digest)
        if num_users or digest in self._pending_loads:
            message = f"{num_users} requests use the adapter"
            return Refused(command.call_id, "ADAPTER_IN_USE", message)
        return Unloaded(command.call_id, self._adapters.forget(digest))

    def _stats(self, call_id: int) -> EngineStats:
        pool = self._pool
        return EngineStats(
            call_id=call_id,
            page_bytes=self._runner.page_bytes,
            total_pages=pool.num_pages,
            free_pages=pool.num_free,
            kv_pages=pool.num_used(PageUse.KV),
            adapter_pages=pool.num_used(PageUse.ADAPTER),
            num_running=self._scheduler.num_running,
            num_waiting=self._scheduler.num_waiting,
            num_steps=self.num_steps,
            adapters=[self._residency(digest) for digest in self._adapters.digests],
        )

    def _residency(self, digest: str) -> AdapterResidency:
        adapter = self._cache.get(digest)
        num_pages = len(adapter.pages) if adapter else 0
        return AdapterResidency(
            digest=digest,
            tier="device" if adapter else "disk",
            pages=num_pages,
            size_bytes=num_pages * self._runner.page_bytes,
            rank=adapter.max_rank if adapter else 0,
            running_requests=self._scheduler.num_users(digest),
        )


def _num_threads(base_weight_bytes: int) -> int:
    """One for a small model, else torch's choice (0)."""
    return 1 if base_weight_bytes < _SMALL_MODEL_BYTES else 0
