"""ReadArtifact of 100 MB against boto3 downloading the same object from the same S3 server.

    python -m benchmarks.artifacts [--megabytes 100] [--runs 7] [--json]

Starts Ceph's RGW and a registry that keeps its artifacts there. Every side writes a file. boto3
reads one stream, as the registry does of the server, and also as `download_file` does, in parts at
once. ReadArtifact's client checks the crc of each chunk. Sides alternate; ratios are medians of the
ratios in the same round. Client, registry and S3 share the machine.
"""

import asyncio
import json
import os
import shutil
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import grpc
import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from safetensors.numpy import save

from benchmarks.registry_server import RegistryServer
from protos import registry_pb2 as pb
from protos import registry_pb2_grpc as rpc
from tests.registry.support import (
    CONFIG,
    SOURCE,
    WEIGHTS,
    Client,
    chunks,
    declared,
    make_base_model,
    make_registered,
)
from tests.servers.buckets import create_bucket, s3_client
from tests.servers.ceph import S3Server, start_s3
from tests.servers.certificates import issue
from tests.servers.guard import Guard

_BUCKET = "artifacts"
_HIDDEN, _RANK = 4096, 64
_LAYER_BYTES = 2 * _RANK * _HIDDEN * 4  # A and B of one square projection in float32
_BASE: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": _HIDDEN,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
}


@dataclass(frozen=True)
class Report:
    """Megabytes per second, medians; ratios are of ReadArtifact to the other side."""

    megabytes: float
    read_artifact: float
    boto3_stream: float
    boto3_parts: float
    to_stream: float
    to_parts: float


def main(
    megabytes: Annotated[int, typer.Option(help="About so many, of one file.")] = 100,
    runs: int = 7,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Downloads `runs` times on every side, after one time that does not count."""
    with _published(megabytes) as (server, version, s3, target):
        key = f"{version.storage_path}/{WEIGHTS}"
        sides: list[Callable[[], None]] = [
            lambda: _read_artifact(server, version, target),
            lambda: _read_stream(s3, key, target),
            lambda: _read_parts(s3, key, target),
        ]
        size = next(file.size_bytes for file in version.files if file.file_name == WEIGHTS)
        rates = [[_rate(side, size, target) for side in sides] for _ in range(runs + 1)][1:]
    ours, stream, parts = (statistics.median(side) for side in zip(*rates, strict=True))
    to_stream, to_parts = (statistics.median(r[0] / r[n] for r in rates) for n in (1, 2))
    report = Report(size / 1e6, ours, stream, parts, to_stream, to_parts)
    print(json.dumps(asdict(report))) if as_json else _print(report, runs)


@contextmanager
def _published(
    megabytes: int,
) -> Iterator[tuple[RegistryServer, pb.AdapterVersion, S3Server, Path]]:
    """A registry on S3 with one large version, and where downloads go: memory, if it can be."""
    with ExitStack() as stack:
        guard = stack.enter_context(Guard())
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        target = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory))) / "download"
        s3 = start_s3(guard, issue(guard.directory))
        stack.callback(s3.process.stop)
        create_bucket(s3, _BUCKET)
        server = RegistryServer(root / "registry", _settings(s3))
        stack.callback(server.stop)
        server.start()
        version = asyncio.run(_publish(server, max(1, megabytes * 10**6 // _LAYER_BYTES)))
        yield server, version, s3, target


def _settings(s3: S3Server) -> dict[str, str]:
    return {
        "s3_bucket": _BUCKET,
        "s3_endpoint": s3.endpoint,
        "s3_region": s3.region,
        "s3_path_style": "true",
        "s3_access_key_id": s3.access_key_id,
        "s3_secret_access_key": s3.secret_access_key,
    }


async def _publish(server: RegistryServer, num_layers: int) -> pb.AdapterVersion:
    async with grpc.aio.insecure_channel(server.service.address) as channel:
        admin = Client(channel, server.admin_key)
        base = {**_BASE, "num_hidden_layers": num_layers}
        await make_base_model(admin, config_json=json.dumps(base))
        adapter = await make_registered(admin, "platform", "large")
        files = _large_adapter(num_layers)
        request = pb.StartUploadRequest(adapter=adapter, files=declared(files))
        upload = (await admin("StartUpload", request)).name
        await admin("WriteArtifact", iter(list(chunks(upload, files, 1 << 20))))
        version: pb.AdapterVersion = await admin(
            "CommitUpload", pb.CommitUploadRequest(name=upload)
        )
        return version


def _large_adapter(num_layers: int) -> dict[str, bytes]:
    random = np.random.default_rng(0)
    tensors = {}
    for layer in range(num_layers):
        module = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        for matrix, shape in (("A", (_RANK, _HIDDEN)), ("B", (_HIDDEN, _RANK))):
            tensors[f"{module}.lora_{matrix}.weight"] = random.random(shape, dtype=np.float32)
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": SOURCE,
        "r": _RANK,
        "lora_alpha": _RANK,
        "target_modules": ["q_proj"],
    }
    return {CONFIG: json.dumps(config).encode(), WEIGHTS: save(tensors)}


def _rate(download: Callable[[], None], size: int, target: Path) -> float:
    target.unlink(missing_ok=True)
    began = time.perf_counter()
    download()
    seconds = time.perf_counter() - began
    assert target.stat().st_size == size
    return size / 1e6 / seconds


def _read_artifact(server: RegistryServer, version: pb.AdapterVersion, target: Path) -> None:
    request = pb.ReadArtifactRequest(version=version.name, file_name=WEIGHTS)
    metadata = (("authorization", f"Bearer {server.admin_key}"),)
    with grpc.insecure_channel(server.service.address) as channel, target.open("wb") as file:
        stub = rpc.ArtifactServiceStub(channel)  # type: ignore[no-untyped-call]
        for chunk in stub.ReadArtifact(request, metadata=metadata, timeout=120):
            assert zlib.crc32(chunk.data) == chunk.crc32
            file.write(chunk.data)


def _read_stream(s3: S3Server, key: str, target: Path) -> None:
    body = s3_client(s3).get_object(Bucket=_BUCKET, Key=key)["Body"]
    with target.open("wb") as file:
        shutil.copyfileobj(body, file, 1 << 20)


def _read_parts(s3: S3Server, key: str, target: Path) -> None:
    s3_client(s3).download_file(_BUCKET, key, str(target))


def _print(report: Report, runs: int) -> None:
    title = f"{report.megabytes:.0f} MB from S3, medians of {runs} runs"
    table = Table("", "MB/s", "ReadArtifact to it", title=title)
    table.add_row("ReadArtifact", f"{report.read_artifact:.0f}", "")
    table.add_row("boto3, one stream", f"{report.boto3_stream:.0f}", f"{report.to_stream:.2f}")
    table.add_row("boto3, download_file", f"{report.boto3_parts:.0f}", f"{report.to_parts:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
