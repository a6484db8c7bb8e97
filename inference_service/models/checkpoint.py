"""The tensors of a safetensors checkpoint by name, and which of them were not taken yet."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from inference_service.models.spec import UnsupportedModelError

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Checkpoint:
    """Open as long as `stack` is. Tensors come out on one device, in one dtype."""

    def __init__(
        self, model_path: Path, stack: ExitStack, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._dtype = dtype
        self._shards: dict[str, Any] = {}
        for path in _shard_paths(model_path):
            shard = stack.enter_context(safe_open(path, framework="pt", device=str(device)))
            self._shards.update(dict.fromkeys(shard.keys(), shard))
        self.unused = set(self._shards)

    def take(self, name: str, *shape: int) -> torch.Tensor:
        """A tensor to keep. Raises UnsupportedModelError when there is none, of that shape."""
        # On a CPU, a view would keep all of the file mapped.
        return self.view(name, *shape).clone()

    def view(self, name: str, *shape: int) -> torch.Tensor:
        """What `take` returns, for a caller that copies it itself: on a CPU a view of the file."""
        if name not in self._shards:
            raise UnsupportedModelError(f"the checkpoint has no tensor {name}")
        self.unused.discard(name)
        tensor: torch.Tensor = self._shards[name].get_tensor(name)
        if tuple(tensor.shape) != shape:
            raise UnsupportedModelError(f"{name} is {list(tensor.shape)}, not {list(shape)}")
        if tensor.dtype not in _DTYPES:
            raise UnsupportedModelError(f"{name} is {tensor.dtype}: quantized weights are not read")
        return tensor.to(self._dtype)


def _shard_paths(model_path: Path) -> list[Path]:
    index = model_path / "model.safetensors.index.json"
    if index.exists():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        return [model_path / name for name in names]
    single = model_path / "model.safetensors"
    if not single.exists():
        raise UnsupportedModelError(f"{model_path} has no model.safetensors (or its index)")
    return [single]
