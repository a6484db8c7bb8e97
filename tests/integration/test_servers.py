"""The test servers: they pause, die and come back with their data, and leave nothing behind."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from registry_service.artifacts.s3_store import S3ObjectStore, S3Options
from tests.backends import POSTGRES_15, POSTGRES_18, Backends
from tests.registry.store_contract import check_store
from tests.servers.buckets import create_bucket, s3_client
from tests.servers.guard import is_alive

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("name", "version"), [(POSTGRES_15, 15), (POSTGRES_18, 18)])
def test_postgres_comes_back_with_its_data(backends: Backends, name: str, version: int) -> None:
    server = backends.postgres(name)
    with server.connect() as connection:
        assert connection.info.server_version // 10000 == version
        connection.execute("CREATE TABLE kept (word text)")
        connection.execute("INSERT INTO kept VALUES ('kept')")
        server.process.pause()
        with pytest.raises(psycopg.OperationalError, match="timeout"):
            server.connect(seconds=2)
        server.process.resume()
        assert connection.execute("SELECT * FROM kept").fetchall() == [("kept",)]
        server.process.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    server.start()
    with server.connect() as connection:
        assert connection.execute("SELECT * FROM kept").fetchall() == [("kept",)]
        connection.execute("DROP TABLE kept")


def test_s3_comes_back_with_its_objects(backends: Backends) -> None:
    server = backends.servers.s3
    create_bucket(server, "kept")
    s3_client(server).put_object(Bucket="kept", Key="word", Body=b"kept")
    server.process.kill()
    server.start()
    assert s3_client(server).get_object(Bucket="kept", Key="word")["Body"].read() == b"kept"


@pytest.mark.parametrize("tls", [False, True])
def test_the_store_keeps_its_contract_on_s3(backends: Backends, tmp_path: Path, tls: bool) -> None:
    server = backends.servers.s3
    create_bucket(server, "contract")
    place: dict[str, Any] = {"endpoint": server.endpoint}
    if tls:
        place = {"endpoint": server.tls_endpoint, "ca_bundle": server.authority}
    store = S3ObjectStore(
        S3Options(
            "contract",
            **place,
            region=server.region,
            path_style=True,
            prefix=f"tls-{tls}",
            access_key_id=server.access_key_id,
            secret_access_key=server.secret_access_key,
        )
    )
    check_store(store, tmp_path)
    store.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind(number: signal.Signals) -> None:
    """Of servers started by hand, also when they are killed, and when some are stopped."""
    command = [sys.executable, "-m", "tests.servers", "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        endpoints = json.loads(run.stdout.readline())
        started = psutil.Process(run.pid).children(recursive=True)
        assert {"radosgw", "ceph-osd", "ceph-mon", "postgres"} <= {p.name() for p in started}
        next(process for process in started if process.name() == "postgres").suspend()
        run.send_signal(number)
        run.wait(timeout=30)
    directory = Path(endpoints["s3_ca_bundle"]).parent
    deadline = time.monotonic() + 20
    while (left := [p for p in started if is_alive(p)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left
    assert not directory.exists()
