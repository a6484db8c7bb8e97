"""What each tenant used, by adapter version."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter

from inference_service.metrics.bounded_labels import OTHERS, BoundedLabels
from inference_service.metrics.request_metrics import MAX_TENANTS
from inference_service.request_record import RequestRecord

MAX_PAIRS: Final = 2000
_LABELS: Final = ("tenant", "adapter_version")


class UsageMetrics:
    """A RequestObserver: tokens of every request that was admitted, however it ended.

    A tenant's sums stay right when its adapters are more than are told apart: what is too much
    goes to the tenant's own series of other adapters.
    """

    def __init__(self, registry: CollectorRegistry, base_model: str) -> None:
        """`base_model` stands for the adapter of requests without one."""
        self._base_model = base_model
        self._tenants = BoundedLabels(MAX_TENANTS)
        self._pairs = BoundedLabels(MAX_PAIRS)
        counted = f"by tenant and adapter version: the first {MAX_PAIRS} pairs seen"
        self._requests = Counter(
            "lorikeet_usage_requests", f"Requests {counted}.", _LABELS, registry=registry
        )
        self._prompt_tokens = Counter(
            "lorikeet_usage_prompt_tokens", f"Prompt tokens {counted}.", _LABELS, registry=registry
        )
        self._cached_tokens = Counter(
            "lorikeet_usage_cached_tokens",
            f"Of these, tokens that the prefix cache had, {counted}.",
            _LABELS,
            registry=registry,
        )
        self._completion_tokens = Counter(
            "lorikeet_usage_completion_tokens",
            f"Tokens generated and sent, {counted}.",
            _LABELS,
            registry=registry,
        )

    def ended(self, record: RequestRecord) -> None:
        if not record.tenant:
            return  # turned away before anybody knew whose it was
        labels = self._labels(record.tenant, record.adapter_version or self._base_model)
        self._requests.labels(*labels).inc()
        if record.first_token is not None:
            self._prompt_tokens.labels(*labels).inc(record.num_prompt_tokens)
            self._cached_tokens.labels(*labels).inc(record.num_cached_tokens)
            self._completion_tokens.labels(*labels).inc(record.num_completion_tokens)

    def _labels(self, tenant: str, adapter_version: str) -> tuple[str, str]:
        if self._tenants.of(tenant) == OTHERS:
            return OTHERS, OTHERS
        if self._pairs.of(f"{tenant} {adapter_version}") == OTHERS:
            return tenant, OTHERS
        return tenant, adapter_version
