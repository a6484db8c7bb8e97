"""Dashboards and alerts ask only for metrics that the services have."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from inference_service.metrics.service_metrics import InferenceMetrics
from lorikeet.rpc.metrics import RpcMetrics
from registry_service.metrics import RegistryMetrics
from tests.inference.world import running_world
from tests.scrapes import scrape_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
# What the scraped service did not measure itself: Prometheus adds them.
_TARGET = {"instance", "job"}
_NAMES = r"\b(?:lorikeet_|vllm:)\w+"

Known = dict[str, set[str]]


def labels_in(registry: CollectorRegistry) -> Known:
    """Each series a scrape may have, and its labels."""
    found: Known = {}
    for name, collector in registry._names_to_collectors.items():
        if isinstance(collector, MetricWrapperBase):
            extra = {"le"} if name.endswith("_bucket") else set()
            found[name] = {*collector._labelnames, *extra}
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    """The registry's series, and those of a scrape of an inference service that did something."""
    metrics = RegistryMetrics()
    RpcMetrics(metrics.registry)
    found = labels_in(metrics.registry) | labels_in(InferenceMetrics("demo", 0).registry)
    root = tmp_path_factory.mktemp("scraped")
    async with running_world(root, metrics_listen="127.0.0.1:0") as world:
        user = await world.user("acme")
        await world.publish("acme", "math")
        await user.generate("math")
        assert world.service.metrics_address is not None
        samples = await asyncio.to_thread(scrape_of, world.service.metrics_address)
        for name, labels in samples:
            found.setdefault(name, set()).update(dict(labels))
    return found


def expressions() -> Iterator[tuple[str, str]]:
    for path in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.name}: {panel['title']}", target["expr"]
    for group in yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


async def test_every_metric_that_is_asked_for_exists_and_has_the_labels(known: Known) -> None:
    asked = set()
    for where, expression in expressions():
        names = re.findall(_NAMES, expression)
        assert names or "up{" in expression, where
        for name in names:
            assert name in known, f"{where}: {name}"
            asked.add(name)
        for name, selector in re.findall(rf"({_NAMES}){{([^}}]*)}}", expression):
            used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
            assert used <= known[name] | _TARGET, f"{where}: {used}"
        for grouping in re.findall(r"by \(([^)]*)\)", expression):
            labels = {label.strip() for label in grouping.split(",")} - _TARGET
            assert any(labels <= known[name] for name in names), f"{where}: {labels}"
    assert len(asked) > 40


async def test_what_both_services_have_is_asked_of_one() -> None:
    """Two services in one sum would be taken for one that is slow."""
    both = r"\b(lorikeet_rpc_\w+)({[^}]*})?"
    for where, expression in expressions():
        for name, selector in re.findall(both, expression):
            assert 'job="' in selector, f"{where}: {name}"


async def test_every_metric_is_on_a_dashboard(known: Known) -> None:
    text = " ".join(expression for _, expression in expressions())
    bases = {re.sub("_(total|bucket|count|sum|created)$", "", name) for name in known}
    unseen = {name for name in bases if name not in text and not name.startswith("vllm:")}
    assert unseen == {"lorikeet_build_info"}


async def test_alerts_say_what_to_do() -> None:
    for group in yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert set(rule["annotations"]) == {"summary", "action"}


async def test_dashboards_have_panels_in_order_and_apart() -> None:
    for path in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")):
        dashboard = json.loads(path.read_text())
        panels = dashboard["panels"]
        assert dashboard["uid"] == f"lorikeet-{path.stem}"
        assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
        cells = [
            (place["x"] + x, place["y"] + y)
            for place in (panel["gridPos"] for panel in panels)
            for x in range(place["w"])
            for y in range(place["h"])
        ]
        assert len(cells) == len(set(cells)), path.name
