"""Requests as they end: how they ended, where their time went, how many tokens they had."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from inference_service.metrics.bounded_labels import BoundedLabels
from inference_service.request_record import RequestRecord

MAX_TENANTS: Final = 100

_SECONDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
_COARSE_SECONDS: Final = (0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)  # for a label of many values
_TOKENS: Final = (1, 4, 16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 131072)


class RequestMetrics:
    """A RequestObserver. Everything is counted once for each request, when it ends."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._tenants = BoundedLabels(MAX_TENANTS)
        self._requests = Counter(
            "lorikeet_requests",
            "Generate and Chat requests that ended, by finish reason or the reason of their error.",
            ("outcome",),
            registry=registry,
        )
        self._seconds = Histogram(
            "lorikeet_request_seconds",
            "From a request's arrival to its end.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._phases = Histogram(
            "lorikeet_request_phase_seconds",
            "Where the time went: admission (registry), prompt (template, tokenizer), adapter "
            "(download, load), queue (in the engine), prefill, decode; unanswered: in the engine "
            "until it ended without a token.",
            ("phase",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._first_token = Histogram(
            "lorikeet_time_to_first_token_seconds",
            "From a request's arrival to its first token, by the tier its adapter was found on: "
            "remote, disk, host, device; or base for no adapter.",
            ("found_on",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._tenant_first_token = Histogram(
            "lorikeet_tenant_time_to_first_token_seconds",
            f"The same by tenant: the first {MAX_TENANTS} seen, and the others together.",
            ("tenant",),
            buckets=_COARSE_SECONDS,
            registry=registry,
        )
        self._prompt_tokens = Histogram(
            "lorikeet_request_prompt_tokens",
            "Prompt tokens of a request.",
            buckets=_TOKENS,
            registry=registry,
        )
        self._completion_tokens = Histogram(
            "lorikeet_request_completion_tokens",
            "Tokens a request was sent, of all its completions.",
            buckets=_TOKENS,
            registry=registry,
        )

    def ended(self, record: RequestRecord) -> None:
        self._requests.labels(record.outcome).inc()
        self._seconds.observe(record.seconds)
        for phase in record.phases:
            self._phases.labels(phase.name).observe(phase.seconds)
        first_token = record.seconds_to_first_token
        if first_token is None:
            return
        self._first_token.labels(record.found_on).observe(first_token)
        self._tenant_first_token.labels(self._tenants.of(record.tenant)).observe(first_token)
        self._prompt_tokens.observe(record.num_prompt_tokens)
        self._completion_tokens.observe(record.num_completion_tokens)
