"""The tiers of one engine, put together: arena and host memory, and who owns what in them."""

import secrets

from inference_service.engine.adapter_cache import AdapterCache
from inference_service.engine.adapter_loader import AdapterLoader
from inference_service.engine.adapter_manager import AdapterManager
from inference_service.engine.arena_memory import ArenaMemory
from inference_service.engine.block_manager import BlockManager
from inference_service.engine.config import EngineConfig
from inference_service.engine.device_memory import read_device_memory
from inference_service.engine.eviction import EvictionQueue, RebuildCosts
from inference_service.engine.host_tier import HostTier
from inference_service.engine.load_pace import LoadPace, steps_fill_processors
from inference_service.engine.model_runner import ModelRunner
from inference_service.engine.page_copier import make_page_copier
from inference_service.engine.page_pool import PagePool, PageUse
from inference_service.engine.prefix_cache import PrefixCache, PrefixKeys
from inference_service.engine.self_report import AdapterResidency, EngineStats
from inference_service.engine.step_stats import StepStats


class EngineMemory:
    """`blocks`, `cache`, `host`, `arena` and `adapters` share one pool and one eviction order."""

    def __init__(self, runner: ModelRunner, config: EngineConfig) -> None:
        layout = runner.layout
        self.page_bytes = runner.page_bytes
        self._device = runner.device
        self._block_tokens = layout.block_tokens
        self.pool = PagePool(runner.arena.shape[0])
        self._idle, self._costs = EvictionQueue(), RebuildCosts()
        keys = PrefixKeys(secrets.token_bytes(16), config.model_path, layout.block_tokens)
        self._prefixes = PrefixCache(self.pool, self._idle, self._costs)
        self.blocks = BlockManager(
            self.pool,
            layout.block_tokens,
            self._prefixes,
            keys if config.prefix_caching else None,
        )
        self.host = HostTier(config.host_memory_bytes, config.max_cpu_loras)
        is_one_memory = runner.device.type == "cpu"
        self.pace = LoadPace(fills_processors=is_one_memory and steps_fill_processors())
        self._copier = make_page_copier(runner.arena, self.pace)
        self.cache = AdapterCache(self.pool, self._copier, self._idle, self._costs)
        self.arena = ArenaMemory(
            self.pool, self._idle, self._prefixes, self.cache, self.host if is_one_memory else None
        )
        loader = AdapterLoader(
            runner.spec,
            layout.page_elems,
            runner.dtype,
            config.max_lora_rank,
            self._copier,
            self.pace,
        )
        self.adapters = AdapterManager(
            self.pool,
            self.arena,
            self.cache,
            self.host,
            loader,
            self._costs,
            max_resident=config.max_loras,
            host_keeps=not is_one_memory,
        )

    def forget(self, digest: str) -> int:
        """Drops an adapter and all it computed; returns the pages its weights had."""
        self._prefixes.forget(digest)
        return self.adapters.forget(digest)

    def drop_prefixes(self, tenant: str | None, adapter_digest: str | None) -> int:
        """Forgets cached KV, None: of any tenant or adapter; returns how many blocks."""
        return self._prefixes.drop(tenant, adapter_digest)

    def observe_step(self, seconds: float, num_prefilled: int) -> None:
        """Learns from a step of nothing but prefill what a cached block saves."""
        if num_prefilled:
            self._costs.observe_prefill(seconds, num_prefilled / self._block_tokens)

    def stats(
        self,
        call_id: int,
        num_running: int,
        num_waiting: int,
        num_steps: int,
        steps: StepStats,
        num_preemptions: int,
        num_prefix_hits: int,
        num_prefix_queries: int,
        adapters: list[AdapterResidency],
    ) -> EngineStats:
        return EngineStats(
            call_id=call_id,
            page_bytes=self.page_bytes,
            total_pages=self.pool.num_pages,
            free_pages=self.pool.num_free,
            kv_pages=self.pool.num_used(PageUse.KV),
            cached_pages=self.pool.num_used(PageUse.CACHED),
            adapter_pages=self.pool.num_used(PageUse.ADAPTER),
            host_bytes=self.host.num_bytes,
            max_host_bytes=self.host.max_bytes,
            num_running=num_running,
            num_waiting=num_waiting,
            num_steps=num_steps,
            steps=steps,
            num_preemptions=num_preemptions,
            num_adapter_loads=self.adapters.num_loads,
            num_adapter_evictions=self.arena.num_evictions,
            num_prefix_hits=num_prefix_hits,
            num_prefix_queries=num_prefix_queries,
            adapters=adapters,
            device_memory=read_device_memory(self._device),
        )

    def close(self) -> None:
        self.adapters.close()
        self._copier.close()

    def check_integrity(self) -> None:
        for part in (self.pool, self.blocks, self._prefixes, self.cache, self.host, self._idle):
            part.check_integrity()
