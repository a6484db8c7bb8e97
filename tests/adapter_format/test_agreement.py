"""Registry and engine say the same of every adapter, of each family, as PEFT writes it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference_service.engine.adapter_files import AdapterInvalidError
from inference_service.engine.peft_adapter import read_adapter
from inference_service.models.families import read_spec
from lorikeet.rpc.errors import LorikeetError
from registry_service.artifacts.base_config import parse_base_config
from registry_service.artifacts.validation import BaseModelFacts, validate_adapter
from tests.checkpoints import write_adapter, write_checkpoint

FAMILIES = ["llama", "mistral", "phi", "phi3", "qwen2", "qwen3"]
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass
class Artifact:
    """An adapter that a case may break."""

    config: dict[str, Any]
    tensors: dict[str, torch.Tensor]


Break = Callable[[Artifact], None]


def config(**changes: Any) -> Break:
    return lambda artifact: artifact.config.update(changes)


def without(field: str) -> Break:
    return lambda artifact: artifact.config.pop(field)


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Break:
    return lambda artifact: change(artifact.tensors)


def first(change: Callable[[torch.Tensor], torch.Tensor]) -> Break:
    """Changes the first tensor, which is an A of layer 0."""

    def apply(named: dict[str, torch.Tensor]) -> None:
        name = min(named)
        named[name] = change(named[name]).contiguous()

    return tensors(apply)


def with_last(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[-1] = value
        return tensor

    return change


SOUND: dict[str, Break] = {
    "as PEFT writes it": config(),
    "all-linear": config(target_modules="all-linear"),
    "regex": config(target_modules=r"model\.layers\.\d+\.(self_attn|mlp)\.\w+"),
    "evil regex": config(target_modules=r"(\w*\.*)*(_proj|dense|fc[12])"),
    "excludes what is not there": config(exclude_modules=["lm_head", "x"]),
    "rslora": config(use_rslora=True, alpha_pattern={".*": 0.5}),
    "patterns": config(r=9, rank_pattern={r"(\w|\w)*": 4}),
    "layers": config(layers_to_transform=[0, 1, 2], layers_pattern=["layers"]),
    "half": tensors(lambda named: named.update({k: v.half() for k, v in named.items()})),
    "bfloat16": tensors(lambda named: named.update({k: v.bfloat16() for k, v in named.items()})),
    "mixed types": first(torch.Tensor.half),
    "not trained": tensors(lambda named: named.update({k: v * 0 for k, v in named.items()})),
    "harmless": config(lora_dropout=0.5, peft_version="9", megatron_core="x", revision=None),
    "neutral": config(use_dora=False, modules_to_save=[], loftq_config={}, eva_config=None),
}
REFUSED: dict[str, tuple[Break, str]] = {
    "rank above the limit": (config(r=65), "r asks for rank 65"),
    "no rank": (without("r"), "r is None"),
    "rank true": (config(r=True), "r is True"),
    "rank text": (config(r="4"), "r is '4'"),
    "rank zero": (config(r=0), "r is 0"),
    "no alpha": (without("lora_alpha"), "lora_alpha is None"),
    "alpha zero": (config(lora_alpha=0), "lora_alpha is 0"),
    "alpha negative": (config(lora_alpha=-1.5), "lora_alpha is -1.5"),
    "alpha huge": (config(lora_alpha=1e300), "lora_alpha is 1e+300"),
    "alpha NaN": (config(lora_alpha=float("nan")), "NaN"),
    "alpha infinite": (config(lora_alpha=float("inf")), "Infinity"),
    "alpha in a pattern": (config(alpha_pattern={"x": 0}), "alpha_pattern is 0"),
    "another type": (config(peft_type="LOHA"), "peft_type"),
    "another task": (config(task_type="SEQ_CLS"), "task_type"),
    "DoRA": (config(use_dora=True), "use_dora"),
    "bias": (config(bias="all"), "bias"),
    "LoRA bias": (config(lora_bias=True), "lora_bias"),
    "saved modules": (config(modules_to_save=["lm_head"]), "modules_to_save"),
    "trained tokens": (config(trainable_token_indices=[1]), "trainable_token_indices"),
    "PiSSA": (config(init_lora_weights="pissa_niter_4"), "init_lora_weights"),
    "a new field": (config(use_flora=None), "use_flora"),
    "code": (config(auto_mapping={"parent_library": "os"}), "auto_mapping"),
    "a target too few": (config(target_modules=r".*\.layers\.0\.\w+\..*"), "layers.1"),
    "a target too many": (
        tensors(lambda named: [named.pop(k) for k in sorted(named)[:2]]),
        "layers.0",
    ),
    "a target that is none": (config(target_modules=["lm_head"]), "target_modules"),
    "all excluded": (config(exclude_modules=".*"), "target_modules"),
    "a broken pattern": (config(target_modules="(q_proj"), "target_modules"),
    "a broken key": (config(rank_pattern={"[": 4}), "rank_pattern"),
    "a layer too many": (config(layers_to_transform=3), "layers_to"),
    "a wrong rank": (config(r=5), "lora_A"),
    "no B": (tensors(lambda named: named.pop(max(named))), "lora_A"),
    "an embedding": (
        tensors(lambda named: named.update({"base_model.model.lm_head.weight": torch.ones(2, 2)})),
        "lm_head.weight",
    ),
    "no tensor": (tensors(dict.clear), "no tensor"),
    "turned": (first(lambda tensor: tensor.T), "has shape"),
    "three dimensions": (first(lambda tensor: tensor[None]), "has shape"),
    "NaN": (first(with_last(float("nan"))), "infinite or not a number"),
    "infinite": (first(with_last(float("-inf"))), "infinite or not a number"),
    "float64": (first(torch.Tensor.double), "has dtype"),
    "integers": (first(torch.Tensor.int), "has dtype"),
    "float8": (first(lambda tensor: tensor.to(torch.float8_e4m3fn)), "has dtype"),
}


@dataclass(frozen=True)
class Judges:
    """A base model of one family, as the registry and the engine know it, and an adapter of it."""

    model_path: Path
    adapter_path: Path

    def registry(self, adapter: Path) -> str:
        """Why the adapter is refused; empty when it is not."""
        text = (self.model_path / "config.json").read_bytes()
        _, modules = parse_base_config(text)
        base = BaseModelFacts("baseModels/tiny", str(self.model_path), [], "r1", modules)
        weights = adapter / WEIGHTS
        try:
            with weights.open("rb") as file:
                config_text = (adapter / CONFIG).read_bytes()
                validate_adapter(config_text, file, weights.stat().st_size, base, 64)
        except LorikeetError as error:
            violation = error.violations[0]
            return f"{violation.field} {violation.description}"
        return ""

    def engine(self, adapter: Path) -> str:
        try:
            read_adapter(adapter, read_spec(self.model_path), 64)
        except AdapterInvalidError as error:
            return str(error)
        return ""


@pytest.fixture(scope="module", params=FAMILIES)
def judges(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Judges:
    root = tmp_path_factory.mktemp(request.param)
    model_path = write_checkpoint(root / "model", family=request.param, pad_token_id=0)
    return Judges(model_path, write_adapter(root / "adapter", model_path, 4))


def broken(judges: Judges, change: Break, directory: Path) -> Path:
    artifact = Artifact(
        json.loads((judges.adapter_path / CONFIG).read_text()),
        load_file(judges.adapter_path / WEIGHTS),
    )
    change(artifact)
    (directory / CONFIG).write_text(json.dumps(artifact.config))
    save_file(artifact.tensors, directory / WEIGHTS)
    return directory


@pytest.mark.parametrize("case", SOUND)
def test_both_accept(judges: Judges, case: str, tmp_path: Path) -> None:
    adapter = broken(judges, SOUND[case], tmp_path)
    assert (judges.registry(adapter), judges.engine(adapter)) == ("", "")


@pytest.mark.parametrize("case", REFUSED)
def test_both_refuse_by_the_same_name(judges: Judges, case: str, tmp_path: Path) -> None:
    change, named = REFUSED[case]
    adapter = broken(judges, change, tmp_path)
    by_registry, by_engine = judges.registry(adapter), judges.engine(adapter)
    assert named in by_registry
    assert by_engine.partition(" (and ")[0] == by_registry
