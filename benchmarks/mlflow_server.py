"""MLflow's tracking server, in an environment of its own, as its command line starts it."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import tenacity

from benchmarks.lookups import ALIAS, name_of
from tests.servers.guard import kill_all
from tests.servers.processes import free_port

_START_SECONDS = 180.0
_API = "api/2.0/mlflow"


def installed(directory: Path) -> Path:
    """The `mlflow` program; the first call makes the environment, which takes some minutes."""
    program = directory / "bin" / "mlflow"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
        pip = [str(directory / "bin" / "pip"), "install", "--quiet"]
        subprocess.run([*pip, "mlflow", "psycopg2-binary"], check=True)
    return program


def version_of(program: Path) -> str:
    command = [str(program), "--version"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@dataclass(frozen=True)
class MlflowServer:
    address: str
    pid: int


@contextmanager
def running_mlflow(program: Path, database_url: str, directory: Path) -> Iterator[MlflowServer]:
    """A server with its default number of workers, on an empty database.

    Spared what only costs it time here: processes for jobs, and restarts of workers that a busy
    machine makes slow to answer their supervisor.
    """
    port = free_port()
    command = [str(program), "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", database_url.replace("+psycopg:", "+psycopg2:")]
    command += ["--default-artifact-root", str(directory / "artifacts")]
    command += ["--uvicorn-opts", "--timeout-worker-healthcheck 120"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (directory / "mlflow.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log, env=environment)
    try:
        _wait(process, f"http://127.0.0.1:{port}/health", directory / "mlflow.log")
        yield MlflowServer(f"127.0.0.1:{port}", process.pid)
    finally:
        kill_all([psutil.Process(process.pid)])  # asked politely, it takes minutes
        process.wait()


def register(address: str, count: int) -> None:
    """`count` models of one version, which an alias points at."""
    for index in range(count):
        name = name_of(index)
        _post(address, "registered-models/create", name=name)
        _post(address, "model-versions/create", name=name, source="s3://models/m")
        _post(address, "registered-models/alias", name=name, alias=ALIAS, version="1")


@tenacity.retry(
    # Its supervisor kills workers that do not answer in time, as on a machine that is busy.
    retry=tenacity.retry_if_exception_type(ConnectionError),
    stop=tenacity.stop_after_attempt(5),
    wait=tenacity.wait_fixed(1),
)
def _post(address: str, method: str, **fields: Any) -> None:
    request = urllib.request.Request(
        f"http://{address}/{_API}/{method}",
        json.dumps(fields).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30):
            return
    except urllib.error.HTTPError as error:
        if b"RESOURCE_ALREADY_EXISTS" not in error.read():  # done by an attempt that was cut
            raise


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"MLflow did not start; its log ends with:\n{log.read_text()[-2000:]}")
