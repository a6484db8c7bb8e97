"""The engine's figures: queues, steps, pages, adapters, memory."""

from collections.abc import Iterator

from prometheus_client.core import Metric

from inference_service.engine.self_report import EngineStats
from inference_service.metrics.families import counter, gauge, gauges, histogram
from inference_service.metrics.sample import Sample


def engine_families(sample: Sample) -> Iterator[Metric]:
    """Counters begin anew with the engine; while it is down, there is only that it is."""
    stats = sample.stats
    yield gauge("lorikeet_engine_up", "Whether the engine answers.", stats is not None)
    if stats is None:
        return
    yield gauge("lorikeet_engine_running", "Sequences in the engine's batch.", stats.num_running)
    yield gauge(
        "lorikeet_engine_waiting",
        "Completions that wait: for their adapter, or in the engine for their turn.",
        max(stats.num_waiting, sample.num_waiting),
    )
    yield counter(
        "lorikeet_preemptions", "Sequences put back for want of pages.", stats.num_preemptions
    )
    yield from _steps(stats)
    yield from _memory(stats)
    yield counter(
        "lorikeet_prefix_cache_query_tokens",
        "Tokens of started sequences that were looked for in the prefix cache.",
        stats.num_prefix_queries,
    )
    yield counter(
        "lorikeet_prefix_cache_hit_tokens", "Of these, tokens found there.", stats.num_prefix_hits
    )
    yield counter("lorikeet_adapter_loads", "Adapters read from disk.", stats.num_adapter_loads)
    yield counter(
        "lorikeet_adapter_evictions",
        "Adapters that left the arena for others.",
        stats.num_adapter_evictions,
    )


def _steps(stats: EngineStats) -> Iterator[Metric]:
    steps = stats.steps
    yield histogram("lorikeet_step_sequences", "Sequences in a step.", steps.sizes)
    yield histogram("lorikeet_step_tokens", "Tokens computed in a step.", steps.tokens)
    yield histogram("lorikeet_step_seconds", "Time of a step.", steps.seconds)
    yield counter(
        "lorikeet_prefill_tokens",
        "Prompt tokens computed, again ones too.",
        steps.num_prefill_tokens,
    )
    yield counter("lorikeet_decode_tokens", "Tokens computed one a step.", steps.num_decode_tokens)


def _memory(stats: EngineStats) -> Iterator[Metric]:
    pages = {
        "kv": stats.kv_pages,
        "cached": stats.cached_pages,
        "adapter": stats.adapter_pages,
        "free": stats.free_pages,
    }
    yield gauges(
        "lorikeet_pages",
        "Pages of the arena, by use; cached ones keep prefixes that no request uses.",
        ("use",),
        [((use,), count) for use, count in pages.items()],
    )
    yield gauge("lorikeet_page_bytes", "Size of a page.", stats.page_bytes)
    yield gauge("lorikeet_host_budget_bytes", "For packed adapters.", stats.max_host_bytes)
    if memory := stats.device_memory:
        parts = {
            "total": memory.total_bytes,
            "available": memory.available_bytes,
            "process": memory.process_bytes,
        }
        yield gauges(
            "lorikeet_device_memory_bytes",
            "As the driver, or the operating system, sees it; process is the engine's part.",
            ("kind",),
            [((kind,), size) for kind, size in parts.items()],
        )
