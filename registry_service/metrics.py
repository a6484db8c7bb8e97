"""The registry's own metrics: its database, its object store, its change feed, its tenants."""

import importlib.metadata
import time
from collections.abc import Iterator, Mapping, Sized
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from sqlalchemy import Engine, event
from sqlalchemy.engine import Connection, ExceptionContext

from registry_service.feed import ChangeFeed
from registry_service.repository.journal import Change

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BEGAN = "metrics_began"


class DatabaseMetrics:
    """Transactions by their end, failures by their kind, and the connections in use."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "lorikeet_database_transaction_seconds",
            "Time from a transaction's begin to its commit or rollback; reading ones roll back.",
            ("kind", "end"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._failures = Counter(
            "lorikeet_database_failures",
            "Errors of the database driver, by their class.",
            ("kind",),
            registry=registry,
        )
        self._in_use = Gauge(
            "lorikeet_database_connections_in_use", "Connections in use.", registry=registry
        )

    def watch(self, engine: Engine) -> None:
        """Counts what this engine, and those made from it by execution options, do from now on."""
        event.listen(engine, "begin", _begin)
        for end in ("commit", "rollback"):
            event.listen(engine, end, partial(self._end, engine, end))
        event.listen(engine, "handle_error", self._failed)
        event.listen(engine, "checkout", lambda *_: self._in_use.inc())
        event.listen(engine, "checkin", lambda *_: self._in_use.dec())

    def _end(self, writing: Engine, end: str, connection: Connection) -> None:
        if connection.invalidated:
            return  # the connection was lost, and with it what was noted there
        began = connection.info.pop(_BEGAN, None)
        if began is not None:
            kind = "write" if connection.engine is writing else "read"
            self._seconds.labels(kind, end).observe(time.perf_counter() - began)

    def _failed(self, context: ExceptionContext) -> None:
        error = context.sqlalchemy_exception or context.original_exception
        self._failures.labels(type(error).__name__).inc()


def _begin(connection: Connection) -> None:
    connection.info[_BEGAN] = time.perf_counter()


class ObjectStoreMetrics:
    """Operations on the object store: their time, their bytes, how they ended."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "lorikeet_object_store_seconds",
            "Time of an operation on the object store.",
            ("operation", "outcome"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._bytes = Counter(
            "lorikeet_object_store_bytes",
            "Bytes written to and read from the object store.",
            ("operation",),
            registry=registry,
        )

    @contextmanager
    def operation(self, name: str) -> Iterator[None]:
        """Times a block; `outcome` is "ok" or the class of what it raised."""
        began, outcome = time.perf_counter(), "ok"
        try:
            yield
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            self._seconds.labels(name, outcome).observe(time.perf_counter() - began)

    def moved(self, operation: str, num_bytes: int) -> None:
        self._bytes.labels(operation).inc(num_bytes)


class FeedMetrics:
    """How far this process has read the change feed, and how its cache of resolutions does."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._revision = Gauge(
            "lorikeet_feed_revision", "Last change this process has read.", registry=registry
        )
        self._delay = Histogram(
            "lorikeet_feed_delay_seconds",
            "From when a change was made until this process knew it; its own it knows at once.",
            buckets=_SECONDS,
            registry=registry,
        )
        resolutions = Counter(
            "lorikeet_resolutions",
            "ResolveAdapter calls answered from this process's memory (hit) or by a query (miss).",
            ("cache",),
            registry=registry,
        )
        self._catalog = Gauge(
            "lorikeet_catalog_adapters",
            "Adapters that ResolveAdapter is answered for from memory.",
            registry=registry,
        )
        self.hits = resolutions.labels("hit")
        self.misses = resolutions.labels("miss")

    def watch(self, feed: ChangeFeed) -> None:
        """Follows `feed` from now on."""
        self._revision.set_function(lambda: feed.position)
        feed.tell(self._changed, lambda: None)

    def show_catalog(self, catalog: Sized) -> None:
        self._catalog.set_function(lambda: len(catalog))

    def _changed(self, change: Change) -> None:
        self._delay.observe(max(0.0, (datetime.now(UTC) - change.time).total_seconds()))


class TenantMetrics:
    """Bytes by tenant: the largest ones, and the others together, so that labels stay few."""

    _MAX_TENANTS = 50

    def __init__(self, registry: CollectorRegistry) -> None:
        self._bytes = Gauge(
            "lorikeet_tenant_bytes", "Stored bytes of a tenant.", ("tenant",), registry=registry
        )
        self._open_uploads = Gauge(
            "lorikeet_uploads_open", "Uploads neither committed nor expired.", registry=registry
        )

    def show(self, bytes_by_tenant: Mapping[str, int], num_open_uploads: int) -> None:
        ranked = sorted(bytes_by_tenant.items(), key=lambda item: -item[1])
        self._bytes.clear()
        for tenant, size in ranked[: self._MAX_TENANTS]:
            self._bytes.labels(tenant).set(size)
        self._bytes.labels("(others)").set(sum(size for _, size in ranked[self._MAX_TENANTS :]))
        self._open_uploads.set(num_open_uploads)


class RegistryMetrics:
    """Everything this service measures, on a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.database = DatabaseMetrics(self.registry)
        self.object_store = ObjectStoreMetrics(self.registry)
        self.feed = FeedMetrics(self.registry)
        self.tenants = TenantMetrics(self.registry)
        self.collected = Counter(
            "lorikeet_garbage_collected",
            "What was deleted because nothing needs it any more.",
            ("kind",),
            registry=self.registry,
        )
        build = Gauge(
            "lorikeet_build_info",
            "Always 1; the label says what runs.",
            ("version",),
            registry=self.registry,
        )
        build.labels(importlib.metadata.version("lorikeet")).set(1)
