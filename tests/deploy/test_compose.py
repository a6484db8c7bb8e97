"""docker-compose.yml says nothing that the services, the secrets or the metrics do not know."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from inference_service.config import Settings as InferenceSettings
from registry_service.config import Settings as RegistrySettings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT = {"volumes", "bucket", "base-model"}
LONG_RUNNING = sorted(set(SERVICES) - ONE_SHOT)
FIELDS = {
    "LORIKEET_REGISTRY_": {*RegistrySettings.model_fields, "secrets_dir"},
    "LORIKEET_INFERENCE_": set(InferenceSettings.model_fields),
}


def variables() -> Iterator[tuple[str, str, str]]:
    for service, definition in SERVICES.items():
        for name, value in definition.get("environment", {}).items():
            yield service, name, str(value)


def port(value: str) -> str:
    return value.rpartition(":")[2]


def test_every_variable_is_a_setting() -> None:
    for service, name, _ in variables():
        if not name.startswith("LORIKEET_"):
            continue
        prefix = next(prefix for prefix in FIELDS if name.startswith(prefix))
        assert name.removeprefix(prefix).lower() in FIELDS[prefix], f"{service}: {name}"


def test_no_secret_is_in_the_environment() -> None:
    for service, name, value in variables():
        secret = re.search("PASSWORD|SECRET_ACCESS|DATABASE_URL|ACCESS_KEY", name)
        assert not secret or name.endswith("_FILE"), f"{service}: {name}"
        assert "hunter2" not in value


def test_secrets_are_declared_mounted_and_used() -> None:
    assert {name for s in SERVICES.values() for name in s.get("secrets", ())} == set(
        COMPOSE["secrets"]
    )
    for name, definition in COMPOSE["secrets"].items():
        assert definition == {"file": f"deploy/secrets/{name}"}
    for service, definition in SERVICES.items():
        named = set(re.findall(r"/run/secrets/([a-z0-9_.]+)", yaml.safe_dump(definition)))
        assert named <= set(definition.get("secrets", ())), service


def test_secret_settings_come_as_files_of_their_name() -> None:
    for service in ("registry", "bucket"):
        files = set(SERVICES[service]["secrets"])
        assert {"database_url", "s3_access_key_id", "s3_secret_access_key"} <= files
        stray = (files & set(RegistrySettings.model_fields)) - {
            *("database_url", "s3_access_key_id", "s3_secret_access_key")
        }
        assert not stray, "a file named as a setting is read as that setting's value"


@pytest.mark.parametrize("service", SERVICES)
def test_images_are_pinned(service: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d[\w.-]*", SERVICES[service]["image"])


@pytest.mark.parametrize("service", SERVICES)
def test_containers_may_do_little(service: str) -> None:
    definition = SERVICES[service]
    assert definition["read_only"] is True
    assert definition["cap_drop"] == ["ALL"]
    assert "privileged" not in definition
    if service == "volumes":
        assert definition["network_mode"] == "none"
        assert "secrets" not in definition
    else:
        assert definition["user"].startswith("${LORIKEET_UID:?")
        assert definition["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_what_runs_is_checked_and_bounded(service: str) -> None:
    definition = SERVICES[service]
    assert definition["healthcheck"]["test"][0] == "CMD"
    assert definition["deploy"]["resources"]["limits"]["memory"]
    assert definition["restart"] == "unless-stopped"
    assert definition["logging"]["options"]["max-size"]


def test_dependencies_wait_for_what_they_need() -> None:
    for service, definition in SERVICES.items():
        for needed, how in definition.get("depends_on", {}).items():
            expected = "completed_successfully" if needed in ONE_SHOT else "healthy"
            assert how == {"condition": f"service_{expected}"}, f"{service} on {needed}"


@pytest.mark.parametrize(
    ("service", "prefix"),
    [("registry", "LORIKEET_REGISTRY_"), ("inference", "LORIKEET_INFERENCE_")],
)
def test_ports_are_the_ones_listened_on(service: str, prefix: str) -> None:
    definition = SERVICES[service]
    listens = port(definition["environment"][f"{prefix}LISTEN"])
    host, container = definition["ports"][0].rsplit(":", 2)[1:]
    assert host == container == listens
    probe = definition["healthcheck"]["test"]
    assert probe[1:4] == ["python", "-m", "lorikeet.rpc.probe"]
    assert probe[4] == f"{service}:{listens}"
    dockerfile = (ROOT / "deploy" / f"Dockerfile.{service}").read_text()
    assert listens in re.findall(r"EXPOSE (.*)", dockerfile)[-1].split()


def test_addresses_name_services_and_their_ports() -> None:
    registry = SERVICES["registry"]["environment"]
    assert f"--port :{port(registry['LORIKEET_REGISTRY_S3_ENDPOINT'])} " in str(
        SERVICES["s3"]["command"]
    )
    inference = SERVICES["inference"]["environment"]["LORIKEET_INFERENCE_REGISTRY"]
    assert inference == f"registry:{port(registry['LORIKEET_REGISTRY_LISTEN'])}"
    scrape = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    jobs = {job["job_name"]: job["static_configs"] for job in scrape["scrape_configs"]}
    assert jobs.keys() == {"registry", "inference"}
    for service, configs in jobs.items():
        listens = SERVICES[service]["environment"][f"LORIKEET_{service.upper()}_METRICS_LISTEN"]
        assert configs == [{"targets": [f"{service}:{port(listens)}"]}]


def test_volumes_are_declared_and_handed_over() -> None:
    named = {
        volume.partition(":")[0]
        for definition in SERVICES.values()
        for volume in definition.get("volumes", ())
        if volume[0] not in "./$"
    }
    assert named == set(COMPOSE["volumes"])
    assert set(SERVICES["volumes"]["command"]) == {f"/v/{name}" for name in named}


def test_bind_mounts_are_there_and_hold_no_secrets() -> None:
    for service, definition in SERVICES.items():
        for volume in definition.get("volumes", ()):
            if volume.startswith("./"):
                path = (ROOT / volume.partition(":")[0]).resolve()
                assert path.exists(), f"{service}: {volume}"
                assert not (ROOT / "deploy" / "secrets").is_relative_to(path), service
                assert volume.endswith(":ro")
