"""What a load came to: delays by percentile, throughput, failures by reason."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lorikeet.load.generator import Measured
from lorikeet.load.sample import Sample

# A generator that is late by more than this adds to what it measures.
_LATE_SECONDS = 0.02


@dataclass(frozen=True)
class Percentiles:
    """Seconds; None of nothing."""

    p50: float | None
    p90: float | None
    p99: float | None
    worst: float | None

    @classmethod
    def of(cls, values: Iterable[float]) -> "Percentiles":
        """Nearest rank: each is a value that was measured."""
        ordered = sorted(values)

        def at(share: float) -> float | None:
            return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] if ordered else None

        return cls(at(0.5), at(0.9), at(0.99), at(1.0))


@dataclass(frozen=True)
class Figures:
    """Of some requests. Delays count from when a request was due; tokens are of all requests."""

    num_requests: int
    num_failed: int
    failures: dict[str, int]
    requests_per_second: float
    prompt_tokens_per_second: float
    output_tokens_per_second: float
    cached_prompt_share: float
    to_first_token: Percentiles
    between_tokens: Percentiles
    end_to_end: Percentiles

    @classmethod
    def of(cls, samples: Sequence[Sample], seconds: float) -> "Figures":
        completed = [sample for sample in samples if not sample.failure]
        prompt_tokens = sum(sample.prompt_tokens for sample in completed)
        cached_tokens = sum(sample.cached_tokens for sample in completed)
        firsts = [sample.to_first_token for sample in samples]
        return cls(
            num_requests=len(samples),
            num_failed=len(samples) - len(completed),
            failures=dict(Counter(s.failure for s in samples if s.failure).most_common()),
            requests_per_second=len(completed) / seconds,
            prompt_tokens_per_second=prompt_tokens / seconds,
            output_tokens_per_second=sum(sample.num_tokens for sample in samples) / seconds,
            cached_prompt_share=cached_tokens / prompt_tokens if prompt_tokens else 0.0,
            to_first_token=Percentiles.of(first for first in firsts if first is not None),
            between_tokens=Percentiles.of(gap for sample in samples for gap in sample.gaps()),
            end_to_end=Percentiles.of(sample.end_to_end for sample in completed),
        )


@dataclass(frozen=True)
class Report:
    """`late`: how late requests were sent and this process was otherwise; `is_late`: too late."""

    seconds: float
    all: Figures
    by_adapter: dict[str, Figures]
    by_tenant: dict[str, Figures]
    num_cut: int
    late: Percentiles
    is_late: bool

    @classmethod
    def of(cls, measured: Measured) -> "Report":
        samples, seconds = measured.samples, measured.seconds
        late = Percentiles.of([*(sample.sent - sample.due for sample in samples), *measured.lags])
        return cls(
            seconds=seconds,
            all=Figures.of(samples, seconds),
            by_adapter=_grouped(samples, seconds, lambda sample: sample.request.adapter),
            by_tenant=_grouped(samples, seconds, lambda sample: sample.request.tenant),
            num_cut=sum(sample.is_cut for sample in samples),
            late=late,
            is_late=(late.p99 or 0.0) > _LATE_SECONDS,
        )


def _grouped(
    samples: Sequence[Sample], seconds: float, key: Callable[[Sample], str]
) -> dict[str, Figures]:
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(key(sample), []).append(sample)
    return {name: Figures.of(groups[name], seconds) for name in sorted(groups)}
