"""What a registry keeps its state in: files beside it, or PostgreSQL and S3. Tests run on each.

`pytest tests/registry --backend postgres15-s3` runs the tests that need a registry on that one.
"""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import create_engine

from registry_service.bootstrap import upgrade_database
from tests.servers.buckets import create_bucket
from tests.servers.everything import Servers
from tests.servers.postgresql import PostgresServer

EMBEDDED = "embedded"
POSTGRES_15 = "postgres15-s3"
POSTGRES_18 = "postgres18-s3-tls"
ON_SERVERS = (POSTGRES_15, POSTGRES_18)
_TEMPLATE = "registry_template"
_BUCKET = "artifacts"


@dataclass(frozen=True)
class Backend:
    """Settings, by name, of registries that share one database and one place for artifacts.

    Embedded, they are none: a registry's data directory has both.
    """

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def arguments(self) -> list[str]:
        """For a registry in this process; the world may see a command line."""
        names = {key: f"--{key.replace('_', '-')}" for key in self.settings}
        return [
            names[key] if text == "true" else f"{names[key]}={text}"
            for key, text in self.settings.items()
        ]

    @property
    def environment(self) -> dict[str, str]:
        """For a registry of its own process."""
        return {f"LORIKEET_REGISTRY_{key.upper()}": text for key, text in self.settings.items()}


class Backends:
    """Fresh backends on running servers, each with its own database and prefix in the bucket."""

    def __init__(self, servers: Servers) -> None:
        self.servers = servers
        self._numbers = itertools.count()
        create_bucket(servers.s3, _BUCKET)
        for postgres in (servers.postgres_15, servers.postgres_18):
            engine = create_engine(postgres.create_database(_TEMPLATE))
            upgrade_database(engine)
            engine.dispose()

    def postgres(self, name: str) -> PostgresServer:
        servers = self.servers
        return servers.postgres_18 if name == POSTGRES_18 else servers.postgres_15

    @contextmanager
    def fresh(self, name: str) -> Iterator[Backend]:
        """Dropped afterwards; what is in the bucket goes when the server does."""
        unique = f"registry_{next(self._numbers)}"
        postgres = self.postgres(name)
        url = postgres.create_database(unique, _TEMPLATE)
        try:
            s3 = self._s3_settings(name, unique)
            yield Backend(name, {"database_url": url, **s3})
        finally:
            postgres.drop_database(unique)

    def _s3_settings(self, name: str, prefix: str) -> dict[str, str]:
        s3 = self.servers.s3
        place = {"s3_endpoint": s3.endpoint}
        if name == POSTGRES_18:
            place = {"s3_endpoint": s3.tls_endpoint, "s3_ca_bundle": str(s3.authority)}
        return {
            **place,
            "s3_bucket": _BUCKET,
            "s3_prefix": prefix,
            "s3_region": s3.region,
            "s3_path_style": "true",
            "s3_access_key_id": s3.access_key_id,
            "s3_secret_access_key": s3.secret_access_key,
        }
