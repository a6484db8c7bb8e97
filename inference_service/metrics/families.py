"""Metric families made at a scrape, of figures that are counted elsewhere."""

from collections.abc import Mapping, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from inference_service.engine.step_stats import Distribution

Labels = Mapping[str, str]


def gauge(name: str, text: str, value: float, labels: Labels | None = None) -> Metric:
    return gauges(name, text, tuple(labels or ()), [(tuple((labels or {}).values()), value)])


def gauges(
    name: str, text: str, labels: Sequence[str], values: Sequence[tuple[Sequence[str], float]]
) -> Metric:
    """One gauge of many series."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


def counter(name: str, text: str, value: float, labels: Labels | None = None) -> Metric:
    family = CounterMetricFamily(name, text, labels=tuple(labels or ()))
    family.add_metric(tuple((labels or {}).values()), value)
    return family


def histogram(name: str, text: str, reading: Distribution, labels: Labels | None = None) -> Metric:
    family = HistogramMetricFamily(name, text, labels=tuple(labels or ()))
    below, buckets = 0, []
    for bound, count in zip((*reading.bounds, float("inf")), reading.counts, strict=True):
        below += count
        buckets.append((str(floatToGoString(bound)), below))  # type: ignore[no-untyped-call]
    family.add_metric(tuple((labels or {}).values()), buckets, reading.total)
    return family
