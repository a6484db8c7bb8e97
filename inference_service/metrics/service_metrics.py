"""Everything the inference service measures, on a registry of its own."""

import importlib.metadata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from inference_service.metrics.download_metrics import DownloadMetrics
from inference_service.metrics.engine_families import engine_families
from inference_service.metrics.request_metrics import RequestMetrics
from inference_service.metrics.residency_families import residency_families
from inference_service.metrics.sample import Sampler
from inference_service.metrics.service_families import service_families
from inference_service.metrics.usage_metrics import UsageMetrics
from inference_service.metrics.vllm_names import VllmRequestMetrics, vllm_families
from inference_service.running_requests import RequestObserver
from lorikeet.rpc.metrics import RpcMetrics
from lorikeet.rpc.names import BaseModelName


class InferenceMetrics:
    """`observers` count requests as they end; the rest is read at each scrape."""

    def __init__(self, base_model: str, max_loras: int) -> None:
        """`base_model` is its id, `max_loras` the limit in the arena or 0."""
        self.registry = CollectorRegistry()
        self.calls = RpcMetrics(self.registry)
        self.downloads = DownloadMetrics(self.registry)
        self.observers: Sequence[RequestObserver] = (
            RequestMetrics(self.registry),
            UsageMetrics(self.registry, str(BaseModelName(base_model))),
            VllmRequestMetrics(self.registry, base_model),
        )
        self._base_model, self._max_loras = base_model, max_loras
        build = Gauge(
            "lorikeet_build_info",
            "Always 1; the labels say what runs.",
            ("version", "base_model"),
            registry=self.registry,
        )
        build.labels(importlib.metadata.version("lorikeet"), base_model).set(1)

    def show(self, sampler: Sampler) -> None:
        """Scrapes show its samples from now on; once."""
        self.registry.register(_ScrapeCollector(sampler, self._base_model, self._max_loras))


@dataclass(frozen=True)
class _ScrapeCollector(Collector):
    """One sample for each scrape, so that its figures are of one moment."""

    sampler: Sampler
    base_model: str
    max_loras: int

    def collect(self) -> Iterator[Metric]:
        sample = self.sampler.sample()
        if sample is None:
            return
        yield from service_families(sample)
        yield from engine_families(sample)
        yield from residency_families(sample)
        yield from vllm_families(sample, self.base_model, self.max_loras)
