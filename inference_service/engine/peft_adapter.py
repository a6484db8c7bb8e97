"""A PEFT adapter directory as matrices. The registry validated it; the engine trusts nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from adapter_format.artifact import MAX_CONFIG_BYTES, WEIGHTS_FILE, Reading, read_artifact
from adapter_format.base_modules import BaseModules, LinearShape
from adapter_format.config_fields import CONFIG_FILE, unsafe_violations
from adapter_format.lora_tensors import are_finite, tensor_names
from adapter_format.safetensors_header import TensorInfo
from adapter_format.strict_json import StrictJsonError, parse_object
from adapter_format.violation import Violation
from inference_service.engine.adapter_files import AdapterInvalidError, read_file
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
) -> list[LoraMatrices]:
    """Every matrix pair of the adapter in `path`, in float32 but within the range of `dtype`.

    Raises AdapterInvalidError, or AdapterCorruptError when the files are not those declared.
    Whatever the files say, no more is read or allocated than they hold.
    """
    config = _parsed(read_file(path / CONFIG_FILE, files, max_bytes=MAX_CONFIG_BYTES))
    weights = read_file(path / WEIGHTS_FILE, files)
    file = BytesIO(weights)
    reading = read_artifact(config, file, len(weights), _base_modules(spec), max_rank)
    _refuse([*unsafe_violations(config), *reading.violations])
    return list(_matrices(file, reading, spec, dtype))


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
    file: BytesIO, reading: Reading, spec: DecoderSpec, dtype: torch.dtype
) -> Iterator[LoraMatrices]:
    assert reading.lora is not None, "nothing was wrong with the config"
    assert reading.header is not None, "nothing was wrong with the header"
    tensors = {tensor.name: tensor for tensor in reading.header.tensors}
    start = reading.header.data_start
    for layer in range(spec.num_layers):
        for index, module in enumerate(spec.modules):
            path = spec.module_path(layer, module)
            lora = reading.lora.modules.get(path)
            if lora is not None:
                a, b = (_read_tensor(file, start, tensors[name]) for name in tensor_names(path))
                scaled = b.T.contiguous() * lora.scaling
                _check_range(f"{path}: A", a, dtype)
                _check_range(f"{path}: B times {lora.scaling:g}", scaled, dtype)
                yield LoraMatrices(layer, index, a, scaled)


def _check_range(what: str, matrix: torch.Tensor, dtype: torch.dtype) -> None:
    low, high = torch.aminmax(matrix)
    if max(-low, high) > torch.finfo(dtype).max:
        raise AdapterInvalidError(f"{what} overflows {dtype}, in which this engine computes")


def _read_tensor(file: BytesIO, start: int, tensor: TensorInfo) -> torch.Tensor:
    """One tensor in float32; its shape was held against the base model's."""
    file.seek(start + tensor.begin)
    data = bytearray(tensor.end - tensor.begin)
    if file.readinto(data) != len(data):
        raise AdapterInvalidError(f"{WEIGHTS_FILE} ends inside {tensor.name}")
    if not are_finite(data, tensor.dtype):
        raise AdapterInvalidError(f"{tensor.name} has an element that is infinite or not a number")
    return torch.frombuffer(data, dtype=_DTYPES[tensor.dtype]).view(tensor.shape).float()
