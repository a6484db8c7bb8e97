"""Reading metrics as Prometheus does."""

import ssl
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def get(url: str, context: ssl.SSLContext | None = None) -> str:
    with urllib.request.urlopen(url, timeout=10, context=context) as answer:
        text: str = answer.read().decode()
        return text


def scrape_of(address: str) -> Samples:
    """Every series at host:port. Not from the event loop that serves it: a scrape asks that too."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(get(f"http://{address}/metrics"))
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    """Of the one series with exactly these labels; 0 when there is none."""
    return samples.get((name, frozenset(labels.items())), 0.0)


def labels_of(samples: Samples, name: str) -> list[dict[str, str]]:
    """Of each series of this name."""
    return [dict(labels) for series, labels in samples if series == name]
