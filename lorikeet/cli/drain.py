"""`lorikeet drain`: a server that is to be stopped ends what it runs first."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import typer
from rich.console import Console

from lorikeet.cli.output import stdout
from lorikeet.cli.settings import Settings
from lorikeet.client import Client
from lorikeet.rpc.errors import UnavailableError
from protos import inference_pb2 as pb

_LOOK_SECONDS = 0.2


def drain(context: typer.Context) -> None:
    """Has the server refuse new requests, and waits until those it runs have ended.

    For administrators. Interrupted or not, the server stays so until it is started again.
    """
    settings = Settings.of(context)
    with settings.client(as_administrator=True) as client, ThreadPoolExecutor(1) as thread:
        draining = thread.submit(client.drain)
        try:
            _show_progress(client, draining)
        finally:
            client.close()  # else the thread would wait on when this is interrupted
    stdout().print("drained: no request runs, and none begins until the server is started again")


def _show_progress(client: Client, draining: "Future[pb.DrainResponse]") -> None:
    with Console(stderr=True).status("draining") as status:
        while not draining.done():
            with suppress(UnavailableError):  # its engine is being started again
                info = client.server_info()
                status.update(f"draining: {info.num_running} running, {info.num_waiting} waiting")
            time.sleep(_LOOK_SECONDS)
    draining.result()
