"""Every tensor of a checkpoint is used, in its own shape, or the checkpoint is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference_service.models.families import read_spec
from inference_service.models.loader import load_weights
from inference_service.models.spec import UnsupportedModelError
from kernels.reference import ReferenceKernels
from tests.models.conftest import Family
from tests.models.families import FAMILIES

CPU = torch.device("cpu")
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def load_changed(
    make_family: Callable[[str], Family], tmp_path: Path
) -> Callable[[str, Callable[[Tensors], None]], None]:
    """Loads a family's checkpoint after a change to its tensors."""

    def load(name: str, change: Callable[[Tensors], None]) -> None:
        directory = tmp_path / "changed"
        shutil.copytree(make_family(name).model_path, directory)
        tensors = load_file(directory / "model.safetensors")
        change(tensors)
        save_file(tensors, directory / "model.safetensors")
        load_weights(directory, read_spec(directory), CPU, torch.float32, ReferenceKernels())

    return load


Load = Callable[[str, Callable[[Tensors], None]], None]


@pytest.mark.parametrize("name", FAMILIES)
def test_all_bytes_of_a_checkpoint_become_weights(
    name: str, make_family: Callable[[str], Family]
) -> None:
    path = make_family(name).model_path
    weights = load_weights(path, read_spec(path), CPU, torch.float32, ReferenceKernels())
    stored = load_file(path / "model.safetensors").values()
    assert weights.num_bytes == sum(tensor.nbytes for tensor in stored)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("llama", "model.layers.2.self_attn.q_proj.bias"),
        ("mistral", "model.layers.0.self_attn.q_norm.weight"),
        ("qwen2", "model.layers.0.self_attn.o_proj.bias"),
        ("qwen3", "model.norm.bias"),
        ("phi-2", "model.layers.1.post_attention_layernorm.weight"),
        ("phi-3", "model.layers.1.self_attn.q_proj.weight"),
    ],
)
def test_a_tensor_without_use_is_refused(load_changed: Load, name: str, tensor: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"no use for.*{tensor}"):
        load_changed(name, lambda tensors: tensors.update({tensor: torch.zeros(64)}))


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("llama", "lm_head.weight"),
        ("qwen3", "model.layers.2.self_attn.k_norm.weight"),
        ("phi-2", "lm_head.bias"),
        ("phi-2", "model.final_layernorm.bias"),
        ("phi-3", "model.layers.0.mlp.gate_up_proj.weight"),
    ],
)
def test_a_missing_tensor_is_refused(load_changed: Load, name: str, tensor: str) -> None:
    def remove(tensors: Tensors) -> None:
        del tensors[tensor]

    with pytest.raises(UnsupportedModelError, match=f"no tensor {tensor}"):
        load_changed(name, remove)


def test_a_tensor_of_another_shape_or_kind_is_refused(load_changed: Load, tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.qkv_proj.weight"

    def cut(tensors: Tensors) -> None:
        tensors[name] = tensors[name][:96].clone()

    def quantize(tensors: Tensors) -> None:
        tensors[name] = tensors[name].to(torch.float8_e4m3fn)

    with pytest.raises(UnsupportedModelError, match=rf"{name} is \[96, 64\], not \[128, 64\]"):
        load_changed("phi-3", cut)
    shutil.rmtree(tmp_path / "changed")
    with pytest.raises(UnsupportedModelError, match=f"{name} is torch.float8"):
        load_changed("phi-3", quantize)
