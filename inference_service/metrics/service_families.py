"""Whether the service serves, what it knows of the registry, and how often its engine ended."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric

from inference_service.metrics.families import counter, gauge, gauges, histogram
from inference_service.metrics.sample import Sample


def service_families(sample: Sample) -> Iterator[Metric]:
    yield gauge("lorikeet_serving", "Whether its health is SERVING.", sample.is_serving)
    yield gauge(
        "lorikeet_registry_watch_age_seconds",
        "Since the registry's change feed was last heard of.",
        sample.watch_age_seconds,
    )
    yield gauge(
        "lorikeet_registry_lease_seconds",
        "For how long requests are admitted without news from the registry.",
        sample.lease_seconds,
    )
    yield gauges(
        "lorikeet_warm_adapters",
        "Adapters that the registry wants kept loaded, and those of them that are.",
        ("state",),
        [(("wanted",), sample.num_warm), (("ready",), sample.num_warm_ready)],
    )
    yield counter("lorikeet_tokens_generated", "Tokens made by the engine.", sample.num_tokens)
    yield histogram(
        "lorikeet_inter_token_seconds",
        "Between the tokens of a completion, as the front end sends them on.",
        sample.intervals,
    )
    yield gauge(
        "lorikeet_event_loop_tasks",
        "Tasks of the front end: as many as there are streams, and a few.",
        sample.num_tasks,
    )
    ends = CounterMetricFamily(
        "lorikeet_engine_ends",
        "Times the engine ended and was started again, by why: out_of_memory (it said so), "
        "killed (by a signal, such as the kernel's for want of memory), failed, stalled, "
        "unreadable.",
        labels=("reason",),
    )
    for reason, count in sample.engine_ends.items():
        ends.add_metric((reason,), count)
    yield ends
