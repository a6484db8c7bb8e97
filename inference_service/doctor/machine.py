"""What the service needs of its machine: the model's files, a place for adapters, its ports."""

import json
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Final

import psutil

from inference_service.config import Settings
from inference_service.model_files import ModelFilesError, read_model_files
from inference_service.tokenizer import TokenizerMissingError
from lorikeet.rpc.checklist import CheckFailed, Checklist, CheckSkipped

_INDEX: Final = "model.safetensors.index.json"
_SECONDS: Final = 2.0


def check_machine(checklist: Checklist, settings: Settings) -> None:
    """Adds `inference.model`, `inference.data_dir`, `inference.memory`, `inference.metrics`."""
    checklist.run("inference.model", "device", lambda: _model(settings.model))
    checklist.run("inference.data_dir", "machine", lambda: _data_dir(settings))
    checklist.run("inference.memory", "machine", lambda: _memory(settings))
    checklist.run("inference.metrics", "HTTP", lambda: _metrics(settings))


def _model(directory: Path) -> str:
    advice = "copy the whole checkpoint, readable for the user that the service runs as"
    try:
        files = read_model_files(directory)
        weights = _weights(directory)
        for path in weights:
            with path.open("rb") as file:
                file.read(1)
    except (OSError, ModelFilesError, TokenizerMissingError) as error:
        raise CheckFailed(f"{directory}: {error}", advice) from error
    if not weights:
        raise CheckFailed(f"{directory} has no *.safetensors", advice)
    size = sum(path.stat().st_size for path in weights) / 2**30
    return f"{len(weights)} weights files of {size:.2f} GiB, config {files.config_digest[:19]}…"


def _weights(directory: Path) -> list[Path]:
    """Those that the index names, or those that are there."""
    index = directory / _INDEX
    if not index.is_file():
        return sorted(directory.glob("*.safetensors"))
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError) as error:
        raise ModelFilesError(f"{_INDEX} has no weight_map") from error
    return [directory / name for name in sorted(names)]


def _data_dir(settings: Settings) -> str:
    """Writable, with room for what the budget lets it grow to."""
    directory = settings.data_dir / "adapters"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise CheckFailed(
            f"{directory} cannot be written: {error.strerror}",
            "give it to the user that the service runs as, or choose another data_dir",
        ) from error
    used = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    free, budget = shutil.disk_usage(directory).free, int(settings.adapter_disk_budget)
    if used + free < budget:
        raise CheckFailed(
            f"{directory} has room for {(used + free) / 2**30:.1f} GiB of adapters, "
            f"adapter_disk_budget is {budget / 2**30:.1f} GiB",
            "make room, or lower adapter_disk_budget: a full disk fails downloads",
        )
    return f"writable, {used / 2**30:.2f} GiB of adapters, {free / 2**30:.0f} GiB free"


def _memory(settings: Settings) -> str:
    """The budgets against all that the machine has; on a GPU the arena is elsewhere."""
    asked = int(settings.host_memory)
    if settings.device != "cuda":
        asked += int(settings.memory)
    total = psutil.virtual_memory().total
    if asked > total:
        raise CheckFailed(
            f"memory and host_memory are {asked / 2**30:.1f} GiB, the machine has "
            f"{total / 2**30:.1f} GiB",
            "lower them: the kernel ends what takes more than there is",
        )
    return f"{asked / 2**30:.2f} GiB asked for of {total / 2**30:.1f} GiB"


def _metrics(settings: Settings) -> str:
    if settings.metrics_listen is None:
        raise CheckSkipped("metrics_listen is not set: nobody can read metrics")
    if not _answers(settings.listen):
        raise CheckSkipped("the service does not run here now")
    if not _answers(settings.metrics_listen):
        raise CheckFailed(
            f"{settings.metrics_listen} does not answer, although the service runs",
            "is it the address that the service was started with? Its log names it",
        )
    return f"{settings.metrics_listen} answers"


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    reached = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))
    try:
        with socket.create_connection((reached, int(port)), timeout=_SECONDS):
            return True
    except (OSError, ValueError):
        return False
