"""The base model's files on this machine: the registered model, whole."""

import json
from pathlib import Path
from typing import Any

from lorikeet.doctor.services import Target
from lorikeet.rpc.checklist import CheckFailed, Checklist, CheckSkipped
from lorikeet.rpc.digests import config_digest
from lorikeet.rpc.errors import LorikeetError, NotFoundError, PermissionDeniedError

_INDEX = "model.safetensors.index.json"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model")


def check_model(
    checklist: Checklist, directory: Path | None, base_model: str, registry: Target
) -> None:
    """Adds `model.*`; without a directory, says how to give one."""
    if directory is None:
        checklist.run("model.files", "device", _no_directory)
        return
    checklist.run("model.files", "device", lambda: _files(directory))
    checklist.run(
        "model.registered",
        "registry",
        lambda: _registered(directory, base_model, registry),
        ["model.files", *(["registry.credential"] if registry.address else [])],
    )


def _no_directory() -> str:
    raise CheckSkipped("no model: give --model DIRECTORY")


def _files(directory: Path) -> str:
    advice = "copy the whole checkpoint: config.json, tokenizer and every weights file"
    if not (directory / "config.json").is_file():
        raise CheckFailed(f"{directory} has no config.json", advice)
    if not any((directory / name).is_file() for name in _TOKENIZERS):
        raise CheckFailed(f"{directory} has no tokenizer.json", advice)
    weights = _weights(directory)
    missing = sorted(name for name in weights if not (directory / name).is_file())
    if missing or not weights:
        what = ", ".join(missing) or "any *.safetensors"
        raise CheckFailed(f"{directory} lacks {what}", advice)
    size = sum((directory / name).stat().st_size for name in weights)
    return f"config, tokenizer and {len(weights)} weights files of {size / 2**30:.2f} GiB"


def _weights(directory: Path) -> set[str]:
    """The names that the index lists, or those that are there."""
    if (directory / _INDEX).is_file():
        return set(_json(directory / _INDEX).get("weight_map", {}).values())
    return {path.name for path in directory.glob("*.safetensors")}


def _registered(directory: Path, base_model: str, registry: Target) -> str:
    if not base_model or not registry.address:
        raise CheckSkipped("give --base-model and --registry to compare with what is registered")
    found = config_digest(_json(directory / "config.json"))
    try:
        with registry.admin() as admin:
            registered = admin.get_base_model(base_model)
    except (NotFoundError, PermissionDeniedError) as error:
        raise CheckFailed(
            f"base model {base_model!r} is not registered, or this key may not see it",
            "register it, or use another key",
        ) from error
    except LorikeetError as error:
        raise CheckFailed(f"{error.code.name}: {error.message}", "see the message") from error
    if registered.config_digest != found:
        raise CheckFailed(
            f"{directory} has config digest {found}, registered is {registered.config_digest}",
            "these are different models or revisions: adapters of one answer badly on the other",
        )
    return f"is baseModels/{base_model.removeprefix('baseModels/')} at {registered.revision}"


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckFailed(f"{path} cannot be read as JSON: {error}", "copy it again") from error
    return content if isinstance(content, dict) else {}
