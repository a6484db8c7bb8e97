"""Dashboards and alerts ask only for metrics that the services have."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from prometheus_client.metrics import MetricWrapperBase

from lorikeet.rpc.metrics import RpcMetrics
from registry_service.metrics import RegistryMetrics

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def labels_of_metrics() -> dict[str, set[str]]:
    """Each series a scrape may have, and its labels."""
    metrics = RegistryMetrics()
    RpcMetrics(metrics.registry)
    found: dict[str, set[str]] = {}
    for name, collector in metrics.registry._names_to_collectors.items():
        assert isinstance(collector, MetricWrapperBase)
        extra = {"le"} if name.endswith("_bucket") else set()
        found[name] = {*collector._labelnames, *extra}
    return found


def expressions() -> Iterator[tuple[str, str]]:
    for path in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.name}: {panel['title']}", target["expr"]
    for group in yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def test_every_metric_that_is_asked_for_exists_and_has_the_labels() -> None:
    known = labels_of_metrics()
    asked = set()
    for where, expression in expressions():
        names = re.findall(r"\blorikeet_\w+", expression)
        assert names or "up{" in expression, where
        for name in names:
            assert name in known, f"{where}: {name}"
            asked.add(name)
        for name, selector in re.findall(r"\b(lorikeet_\w+){([^}]*)}", expression):
            used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
            assert used <= known[name], f"{where}: {used}"
        for grouping in re.findall(r"by \(([^)]*)\)", expression):
            labels = {label.strip() for label in grouping.split(",")} - {"instance"}
            assert any(labels <= known[name] for name in names), f"{where}: {labels}"
    assert len(asked) > 10


def test_every_metric_is_on_the_dashboard() -> None:
    text = " ".join(expression for _, expression in expressions())
    bases = {re.sub("_(total|bucket|count|sum|created)$", "", name) for name in labels_of_metrics()}
    unseen = {name for name in bases if name not in text}
    assert unseen == {"lorikeet_build_info"}


def test_alerts_say_what_to_do() -> None:
    for group in yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert set(rule["annotations"]) == {"summary", "action"}
