"""A PEFT adapter directory as matrices. The registry validated it; the engine trusts nothing."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adapter_format.artifact import MAX_CONFIG_BYTES, WEIGHTS_FILE, Reading, read_artifact
from adapter_format.base_modules import BaseModules, LinearShape
from adapter_format.config_fields import CONFIG_FILE, unsafe_violations
from adapter_format.lora_tensors import tensor_names
from adapter_format.safetensors_header import LENGTH_BYTES, MAX_HEADER_BYTES, TensorInfo
from adapter_format.strict_json import StrictJsonError, parse_object
from adapter_format.violation import Violation
from inference_service.engine.adapter_files import AdapterInvalidError, read_file
from inference_service.engine.load_pace import Rest, no_rest
from inference_service.engine.request import DeclaredFile
from inference_service.models.spec import DecoderSpec

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class LoraMatrices:
    """One adapted module: y += (x A^T) B. a [rank, in]; b [rank, out], transposed and scaled.

    `module` counts in DecoderSpec.modules.
    """

    layer: int
    module: int
    a: torch.Tensor
    b: torch.Tensor

    @property
    def rank(self) -> int:
        return self.a.shape[0]


def read_adapter(
    path: Path,
    spec: DecoderSpec,
    max_rank: int,
    dtype: torch.dtype = torch.float32,
    files: Mapping[str, DeclaredFile] | None = None,
    rest: Rest = no_rest,
) -> list[LoraMatrices]:
    """Every matrix pair of the adapter in `path`, in `dtype`.

    Raises AdapterInvalidError, or AdapterCorruptError when the files are not those declared.
    Whatever the files say, no more is read or allocated than they hold.
    """
    config = _parsed(read_file(path / CONFIG_FILE, files, max_bytes=MAX_CONFIG_BYTES).tobytes())
    weights = read_file(path / WEIGHTS_FILE, files, rest=rest)
    begin = BytesIO(weights[: LENGTH_BYTES + MAX_HEADER_BYTES])
    reading = read_artifact(config, begin, len(weights), _base_modules(spec), max_rank)
    _refuse([*unsafe_violations(config), *reading.violations])
    matrices = []
    for pair in _matrices(weights, reading, spec, dtype):
        matrices.append(pair)
        rest()
    return matrices


def _parsed(config_text: bytes) -> dict[str, Any]:
    try:
        return parse_object(config_text)
    except StrictJsonError as error:
        raise AdapterInvalidError(f"{CONFIG_FILE} {error}") from error


def _base_modules(spec: DecoderSpec) -> BaseModules:
    return BaseModules(
        spec.num_layers,
        {
            spec.module_path(layer, module): LinearShape(*spec.module_shape(module))
            for layer in range(spec.num_layers)
            for module in spec.modules
        },
    )


def _refuse(violations: list[Violation]) -> None:
    """Names the first violation, and how many more there are."""
    if violations:
        first, more = violations[0], len(violations) - 1
        rest = f" (and {more} more)" if more else ""
        raise AdapterInvalidError(f"{first.field} {first.description}{rest}")


def _matrices(
    weights: memoryview, reading: Reading, spec: DecoderSpec, dtype: torch.dtype
) -> Iterator[LoraMatrices]:
    assert reading.lora is not None, "nothing was wrong with the config"
    assert reading.header is not None, "nothing was wrong with the header"
    tensors = {tensor.name: tensor for tensor in reading.header.tensors}
    data = weights[reading.header.data_start :]
    for layer in range(spec.num_layers):
        for index, module in enumerate(spec.modules):
            path = spec.module_path(layer, module)
            lora = reading.lora.modules.get(path)
            if lora is not None:
                names = tensor_names(path)
                a, b = (_tensor(data, tensors[name]) for name in names)
                _check(f"{path}: A", names[0], a, 1.0, dtype)
                _check(f"{path}: B times {lora.scaling:g}", names[1], b, lora.scaling, dtype)
                yield LoraMatrices(layer, index, a.to(dtype), _scaled(b.T, lora.scaling, dtype))


def _tensor(data: memoryview, tensor: TensorInfo) -> torch.Tensor:
    """One tensor where it lies in the file; its shape was held against the base model's."""
    flat = np.frombuffer(data[tensor.begin : tensor.end], np.uint8)
    dtype = _DTYPES[tensor.dtype]
    is_aligned = flat.ctypes.data % dtype.itemsize == 0  # a header may be of any length
    return torch.from_numpy(flat if is_aligned else flat.copy()).view(dtype).view(tensor.shape)


def _check(what: str, name: str, matrix: torch.Tensor, scaling: float, dtype: torch.dtype) -> None:
    """Refuses elements that are no finite numbers, or would be none in `dtype`, scaled."""
    low, high = torch.aminmax(matrix)  # both are no number as soon as one element is none
    largest = max(-low.item(), high.item())
    if not math.isfinite(largest):
        raise AdapterInvalidError(f"{name} has an element that is infinite or not a number")
    if largest * abs(scaling) > torch.finfo(dtype).max:
        raise AdapterInvalidError(f"{what} overflows {dtype}, in which this engine computes")


def _scaled(matrix: torch.Tensor, scaling: float, dtype: torch.dtype) -> torch.Tensor:
    """`matrix` times `scaling`, contiguous. Computed in float32 and rounded once, as torch does
    with the elements of a 16-bit type."""
    matrix = matrix.contiguous()
    return (matrix if matrix.dtype == dtype else matrix.float()).mul(scaling).to(dtype)
