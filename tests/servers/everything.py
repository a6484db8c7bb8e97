"""All servers at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from tests.servers.ceph import S3Server, start_s3
from tests.servers.certificates import issue
from tests.servers.guard import Guard
from tests.servers.postgresql import PostgresServer, debian_15, start_postgres, wheel_18


@dataclass(frozen=True)
class Servers:
    """Two PostgreSQL and one S3, which answers over HTTP and TLS."""

    postgres_15: PostgresServer
    postgres_18: PostgresServer
    s3: S3Server


@contextmanager
def running_servers() -> Iterator[Servers]:
    """Started in parallel (seconds), ended and removed on leaving, or when this process dies."""
    with Guard() as guard:
        certificates = issue(guard.directory)
        with ThreadPoolExecutor(3) as threads:
            s3 = threads.submit(start_s3, guard, certificates)
            older = threads.submit(lambda: start_postgres(debian_15(), guard))
            newer = threads.submit(lambda: start_postgres(wheel_18(), guard))
        servers = Servers(older.result(), newer.result(), s3.result())
        try:
            yield servers
        finally:
            for server in (servers.postgres_15, servers.postgres_18, servers.s3):
                server.process.stop()
