"""A real service for TinyLlama's shape, with published adapters: registry, front end, engine."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.synthetic import write_adapter, write_tinyllama
from inference_service.models.families import read_spec
from lorikeet.admin import AdminClient
from lorikeet.local import LocalStack
from tests.inference.tokenizer_files import write_model

TENANT = "bench"
_SOURCE = "benchmark/tinyllama-shape"
PROMPT_TOKENS = tuple(range(5, 400))  # what random prompts are made of: words, none of them special


def write_served_model(directory: Path, layers: int) -> Path:
    """A checkpoint of so many of TinyLlama's layers, with a tokenizer of as many words.

    One that is there already, as are adapters below, is kept: a large one takes a while to write.
    """
    model = directory / f"model-{layers}"
    if model.exists():
        return model
    written = write_tinyllama(directory / f"{model.name}.part", layers)
    config = (written / "config.json").read_text()
    tokenizer = write_model(directory / "tokenizer")
    for path in tokenizer.iterdir():
        path.rename(written / path.name)
    tokenizer.rmdir()
    (written / "config.json").write_text(config)
    _name_every_token(written / "tokenizer.json", json.loads(config)["vocab_size"])
    return written.rename(model)


def _name_every_token(tokenizer: Path, vocab_size: int) -> None:
    """Random weights say any token: each has a text, so that the front end has its work."""
    content = json.loads(tokenizer.read_text())
    vocabulary = content["model"]["vocab"]
    known = {*vocabulary.values(), *(token["id"] for token in content["added_tokens"])}
    vocabulary |= {f"word{token}": token for token in range(vocab_size) if token not in known}
    tokenizer.write_text(json.dumps(content))


def write_adapters(
    directory: Path, model: Path, ranks: Sequence[int], modules: tuple[str, ...] = ()
) -> dict[str, Path]:
    """Adapters in bfloat16, by name: `a0` has the first rank, and so on."""
    return {
        f"a{number}": _written(directory, model, number, rank, modules)
        for number, rank in enumerate(ranks)
    }


def _written(
    directory: Path, model: Path, number: int, rank: int, modules: tuple[str, ...]
) -> Path:
    kind = "-".join((model.name, f"r{rank}", *modules))
    path = directory / f"{kind}-{number}"
    if path.exists():
        return path
    partial = directory / f"{path.name}.part"
    write_adapter(partial, read_spec(model), rank, number, torch.bfloat16, modules)
    config = json.loads((partial / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = _SOURCE
    (partial / "adapter_config.json").write_text(json.dumps(config))
    return partial.rename(path)


@contextmanager
def workspace(kept: Path | None) -> Iterator[Path]:
    """A directory for checkpoint and adapters: one to keep, or one that goes."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


@dataclass(frozen=True)
class Served:
    """A running stack and a key of its one tenant, who owns every adapter."""

    stack: LocalStack
    admin: AdminClient
    key: str


@contextmanager
def serving(
    model: Path, adapters: dict[str, Path], inference_args: Sequence[str] = ()
) -> Iterator[Served]:
    """Until the block ends; `adapters` are published to the registry, and not loaded yet."""
    stack = LocalStack(model, "shape", source=_SOURCE, inference_args=inference_args)
    with stack, stack.admin() as admin:
        key = admin.ensure_tenant(TENANT)
        for name, path in adapters.items():
            admin.create_adapter(f"{TENANT}/{name}", "shape")
            admin.push(path, f"{TENANT}/{name}")
        yield Served(stack, admin, key)
