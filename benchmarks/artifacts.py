"""An artifact read through the registry, beside boto3 reading the same object directly.

    LORIKEET_REGISTRY_S3_BUCKET=… LORIKEET_REGISTRY_S3_ENDPOINT=… python -m benchmarks.artifacts

A registry is started on the settings of the environment and a temporary data directory, and an
adapter of about `--mib` MiB is pushed to it. Then its weights are read in turn through
ReadArtifact, by boto3 in one stream, and by boto3's parallel download. What is printed are medians
and their ratios, which is what may be compared between machines. `python -m tests.servers` has an
S3 server.
"""

import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import grpc
import numpy as np
import typer
from safetensors.numpy import save_file

from benchmarks.options import AsJson
from lorikeet.admin import AdminClient
from lorikeet.process import ServiceProcess
from protos import registry_pb2 as pb
from protos import registry_pb2_grpc as rpc
from registry_service.artifacts.s3_store import S3ObjectStore, make_client
from registry_service.config import Settings, load_settings
from registry_service.stores import s3_options

MIB = 1024 * 1024
_HIDDEN, _RANK = 4096, 64
_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj")
_BYTES_PER_LAYER = len(_MODULES) * 2 * _HIDDEN * _RANK * 4
_WEIGHTS = "adapter_model.safetensors"

Reader = Callable[[], int]


def main(
    mib: Annotated[int, typer.Option(help="Size of the weights.")] = 100,
    rounds: Annotated[int, typer.Option(help="How often each way of reading is measured.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Medians of MiB/s, and of the ratios within a round."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        settings = load_settings(["--data-dir", str(directory / "data")])
        if settings.s3_bucket is None:
            raise typer.BadParameter(
                "set LORIKEET_REGISTRY_S3_BUCKET and what else the bucket needs"
            )
        arguments = ["--listen", "127.0.0.1:0", "--data-dir", str(settings.data_dir)]
        (directory / "run").mkdir()
        registry = ServiceProcess("registry_service", arguments, directory / "run")
        try:
            address = registry.wait_until_ready(60)
            key = json.loads((settings.data_dir / "credentials.json").read_text())["admin"]
            version = _push(address, key, directory, max(1, mib * MIB // _BYTES_PER_LAYER))
            with grpc.insecure_channel(address) as channel:
                readers = _readers(channel, key, version, settings)
                _report(_measure(readers, rounds), as_json)
        finally:
            registry.stop(10)


def _push(address: str, key: str, directory: Path, num_layers: int) -> pb.AdapterVersion:
    config = {
        "model_type": "llama",
        "hidden_size": _HIDDEN,
        "intermediate_size": 2 * _HIDDEN,
        "num_attention_heads": 32,
        "num_hidden_layers": num_layers,
        "vocab_size": 32,
    }
    (directory / "config.json").write_text(json.dumps(config))
    with AdminClient(address, key) as admin:
        admin.register_base_model("wide", directory, source="example/wide", revision="r1")
        admin.create_adapter("platform/wide", "wide")
        return admin.push(_write_adapter(directory / "peft", num_layers), "platform/wide")


def _write_adapter(directory: Path, num_layers: int) -> Path:
    directory.mkdir()
    random = np.random.default_rng(0)
    tensors = {}
    for layer in range(num_layers):
        for module in _MODULES:
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            for matrix, shape in (("A", (_RANK, _HIDDEN)), ("B", (_HIDDEN, _RANK))):
                values = random.standard_normal(shape, dtype=np.float32)
                tensors[f"{name}.lora_{matrix}.weight"] = values
    save_file(tensors, directory / _WEIGHTS)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "example/wide",
        "r": _RANK,
        "lora_alpha": _RANK,
        "target_modules": list(_MODULES),
        "bias": "none",
    }
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


def _readers(
    channel: grpc.Channel, key: str, version: pb.AdapterVersion, settings: Settings
) -> dict[str, Reader]:
    """Ways to read the weights; each returns how many bytes there were."""
    make: Any = rpc
    stub = make.ArtifactServiceStub(channel)
    request = pb.ReadArtifactRequest(version=version.name, file_name=_WEIGHTS)
    metadata = (("authorization", f"Bearer {key}"),)
    assert settings.s3_bucket is not None, "checked at the start"
    options = s3_options(settings, settings.s3_bucket)
    store, client = S3ObjectStore(options), make_client(options)
    object_key = f"{version.storage_path}/{_WEIGHTS}"
    prefixed = f"{options.prefix.strip('/')}/{object_key}".lstrip("/")

    def through_registry() -> int:
        return sum(len(part.data) for part in stub.ReadArtifact(request, metadata=metadata))

    def one_stream() -> int:
        stream, size = store.open(object_key), 0
        while data := stream.read(MIB):
            size += len(data)
        return size

    def parallel() -> int:
        output = io.BytesIO()
        client.download_fileobj(settings.s3_bucket, prefixed, output)
        return output.tell()

    return {"registry": through_registry, "boto3": one_stream, "boto3, parallel": parallel}


def _measure(readers: dict[str, Reader], rounds: int) -> list[dict[str, float]]:
    """MiB/s of every way in every round, after one round that is not counted."""
    measured = []
    for _ in range(rounds + 1):
        speeds = {}
        for name, read in readers.items():
            began = time.perf_counter()
            size = read()
            speeds[name] = size / MIB / (time.perf_counter() - began)
        measured.append(speeds)
    return measured[1:]


def _report(measured: list[dict[str, float]], as_json: bool) -> None:
    rows = {
        name: {
            "mib_per_second": statistics.median(speeds[name] for speeds in measured),
            "registry_ratio": statistics.median(s["registry"] / s[name] for s in measured),
        }
        for name in measured[0]
    }
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for name, row in rows.items():
        typer.echo(
            f"{name:16} {row['mib_per_second']:7.0f} MiB/s   "
            f"registry / this: {row['registry_ratio']:.2f}"
        )


if __name__ == "__main__":
    typer.run(main)
