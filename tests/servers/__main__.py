"""Starts PostgreSQL 15, PostgreSQL 18 and S3, prints where they are, and runs until Ctrl-C."""

import json
import signal
import sys
import time
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from tests.servers.buckets import create_bucket
from tests.servers.everything import Servers, running_servers

BUCKET = "lorikeet"


def endpoints(servers: Servers) -> dict[str, str]:
    """Settings of a registry on these servers; keys as in `LORIKEET_REGISTRY_<KEY>` where one is
    meant for it as it stands."""
    s3 = servers.s3
    return {
        "postgres_15": servers.postgres_15.url(),
        "postgres_18": servers.postgres_18.url(),
        "s3_endpoint": s3.endpoint,
        "s3_tls_endpoint": s3.tls_endpoint,
        "s3_ca_bundle": str(s3.authority),
        "s3_bucket": BUCKET,
        "s3_region": s3.region,
        "s3_access_key_id": s3.access_key_id,
        "s3_secret_access_key": s3.secret_access_key,
    }


def main(
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on one line")] = False,
) -> None:
    """Start every test server, print where they are, and wait for Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    began = time.monotonic()
    with running_servers() as servers:
        create_bucket(servers.s3, BUCKET)
        if as_json:
            print(json.dumps(endpoints(servers)), flush=True)
        else:
            _print_table(servers, time.monotonic() - began)
        signal.pause()


def _leave(number: int, frame: object) -> NoReturn:
    sys.exit(0)


def _print_table(servers: Servers, seconds: float) -> None:
    table = Table(title=f"Ready after {seconds:.1f} s. Ctrl-C stops and removes everything.")
    table.add_column("setting")
    table.add_column("value", overflow="fold")
    for name, value in endpoints(servers).items():
        table.add_row(name, value)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
