"""Which adapters are on which tier, how many, and how large."""

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import Metric

from inference_service.engine.self_report import AdapterResidency
from inference_service.metrics.families import gauge, gauges
from inference_service.metrics.sample import Sample

MAX_NAMED: Final = 500
_TIERS: Final = ("device", "host", "disk")


def residency_families(sample: Sample) -> Iterator[Metric]:
    """An adapter counts on each tier that has its bytes; it is named on its highest one."""
    resident = {a.digest: a for a in sample.stats.adapters} if sample.stats else {}
    bytes_by_tier: dict[str, dict[str, int]] = {
        "device": {a.digest: a.size_bytes for a in resident.values() if a.size_bytes},
        "host": {a.digest: a.host_bytes for a in resident.values() if a.host_bytes},
        "disk": dict(sample.disk_bytes),
    }
    yield gauges(
        "lorikeet_adapters",
        "Adapters that have bytes on a tier.",
        ("tier",),
        [((tier,), len(bytes_by_tier[tier])) for tier in _TIERS],
    )
    yield gauges(
        "lorikeet_adapter_bytes",
        "Bytes of adapters on a tier.",
        ("tier",),
        [((tier,), sum(bytes_by_tier[tier].values())) for tier in _TIERS],
    )
    pinned = sum(adapter.pinned for adapter in resident.values())
    yield gauge("lorikeet_adapters_pinned", "Adapters kept resident until unpinned.", pinned)
    yield _named(sample, resident)


def _named(sample: Sample, resident: dict[str, AdapterResidency]) -> Metric:
    """Those nearest to the device first; among equals the busiest."""

    def rank(digest: str) -> tuple[int, int, str]:
        adapter = resident.get(digest)
        busy = adapter.running_requests if adapter else 0
        return _TIERS.index(_tier(adapter)), -busy, digest

    digests = sorted(sample.disk_bytes.keys() | resident.keys(), key=rank)
    values = [
        ((sample.version_names.get(digest, digest), _tier(resident.get(digest))), 1.0)
        for digest in digests[:MAX_NAMED]
    ]
    return gauges(
        "lorikeet_adapter_resident",
        f"Always 1: the highest tier of an adapter; the {MAX_NAMED} nearest to the device.",
        ("adapter_version", "tier"),
        values,
    )


def _tier(adapter: AdapterResidency | None) -> str:
    return adapter.tier if adapter else "disk"
