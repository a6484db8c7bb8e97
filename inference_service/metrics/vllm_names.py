"""The metrics that routers read, under vLLM's names.

The Gateway API Inference Extension and llm-d choose replicas by queue, running requests, KV use
and adapters (their model server protocol); dashboards made for vLLM show the rest.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import Metric

from inference_service.engine.self_report import EngineStats
from inference_service.metrics.families import counter, gauge, histogram
from inference_service.metrics.sample import Sample
from inference_service.request_record import RequestRecord

MAX_NAMED_ADAPTERS: Final = 256  # in one label
_FINISHED: Final = ("stop", "length", "abort", "error")
_FIRST_TOKEN_SECONDS: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
_REQUEST_SECONDS: Final = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)


class VllmRequestMetrics:
    """A RequestObserver: what vLLM counts when a request ends, with its buckets."""

    def __init__(self, registry: CollectorRegistry, model_name: str) -> None:
        def seconds(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            made = Histogram(
                f"vllm:{name}", text, ("model_name",), buckets=buckets, registry=registry
            )
            return made.labels(model_name)

        self._first_token = seconds(
            "time_to_first_token_seconds", "Time to the first token.", _FIRST_TOKEN_SECONDS
        )
        self._whole = seconds("e2e_request_latency_seconds", "Whole requests.", _REQUEST_SECONDS)
        self._phases = {
            phase: seconds(f"request_{phase}_time_seconds", f"In {phase}.", _REQUEST_SECONDS)
            for phase in ("queue", "prefill", "decode")
        }
        prompt_tokens = Counter(
            "vllm:prompt_tokens", "Prompt tokens.", ("model_name",), registry=registry
        )
        self._prompt_tokens = prompt_tokens.labels(model_name)
        finished = Counter(
            "vllm:request_success",
            "Requests that ended.",
            ("model_name", "finished_reason"),
            registry=registry,
        )
        self._finished = {reason: finished.labels(model_name, reason) for reason in _FINISHED}

    def ended(self, record: RequestRecord) -> None:
        self._finished[_finished_reason(record.outcome)].inc()
        if record.first_token is None or record.seconds_to_first_token is None:
            return
        self._first_token.observe(record.seconds_to_first_token)
        self._whole.observe(record.seconds)
        self._prompt_tokens.inc(record.num_prompt_tokens)
        for phase in record.phases:
            if phase.name in self._phases:
                self._phases[phase.name].observe(phase.seconds)


def vllm_families(sample: Sample, model_name: str, max_loras: int) -> Iterator[Metric]:
    """What vLLM knows at any moment. `max_loras` 0: as many as sequences in a batch."""
    model = {"model_name": model_name}
    yield counter("vllm:generation_tokens", "Generated tokens.", sample.num_tokens, model)
    for name in ("inter_token_latency_seconds", "time_per_output_token_seconds"):
        yield histogram(f"vllm:{name}", "Between two tokens.", sample.intervals, model)
    yield _lora_requests(sample, max_loras or sample.info.max_num_seqs)
    stats = sample.stats
    if stats is None:
        return
    waiting = max(stats.num_waiting, sample.num_waiting)
    yield gauge("vllm:num_requests_running", "In the batch.", stats.num_running, model)
    yield gauge("vllm:num_requests_waiting", "Waiting.", waiting, model)
    for name in ("kv_cache_usage_perc", "gpu_cache_usage_perc"):
        yield gauge(f"vllm:{name}", "KV in use, from 0 to 1.", _kv_use(stats), model)
    yield counter(
        "vllm:prefix_cache_queries", "Tokens looked for.", stats.num_prefix_queries, model
    )
    yield counter("vllm:prefix_cache_hits", "Tokens found.", stats.num_prefix_hits, model)
    yield counter("vllm:num_preemptions", "Preemptions.", stats.num_preemptions, model)
    blocks = {
        "block_size": str(sample.info.block_tokens),
        "num_gpu_blocks": str(stats.total_pages - stats.adapter_pages),
    }
    yield gauge("vllm:cache_config_info", "Always 1.", 1, {**model, **blocks})


def _lora_requests(sample: Sample, max_loras: int) -> Metric:
    """Readers take the series with the newest value: the value is the time."""
    running = _names(r.adapter_version for r in sample.requests if r.is_running)
    waiting = _names(r.adapter_version for r in sample.requests if not r.is_running)
    labels = {
        "max_lora": str(max_loras),
        "running_lora_adapters": ",".join(running),
        "waiting_lora_adapters": ",".join(waiting),
    }
    return gauge("vllm:lora_requests_info", "Adapters of requests.", time.time(), labels)


def _names(version_names: Iterable[str]) -> list[str]:
    """`tenants/acme/adapters/math/versions/3` → `acme/math@3`, as requests may name it."""
    named = sorted({name for name in version_names if name})[:MAX_NAMED_ADAPTERS]
    return [
        name.removeprefix("tenants/").replace("/adapters/", "/").replace("/versions/", "@")
        for name in named
    ]


def _kv_use(stats: EngineStats) -> float:
    """Of the pages that adapters leave; cached ones are given up for whatever needs room."""
    pages = stats.total_pages - stats.adapter_pages
    return stats.kv_pages / pages if pages else 1.0


def _finished_reason(outcome: str) -> str:
    if outcome == "length":
        return "length"
    if outcome in ("stop", "tool_calls"):
        return "stop"
    return "abort" if outcome == "CANCELLED" else "error"
