"""Holds the tensors of an adapter against what its config declares. Pure.

Every declared module has its A [rank, in] and its B [out, rank]; there is no other tensor.
"""

from collections.abc import Iterator, Mapping
from typing import BinaryIO

import numpy as np

from adapter_format.base_modules import BaseModules
from adapter_format.lora_config import LoraConfig
from adapter_format.safetensors_header import SafetensorsHeader, TensorInfo
from adapter_format.violation import Problem, Reason, Violation

_PREFIX = "base_model.model."
_SUFFIXES = (".lora_A.weight", ".lora_B.weight")
_READ_BYTES = 4 * 1024 * 1024
# An element is infinite or not a number exactly when every bit of its exponent is set.
_EXPONENTS: Mapping[str, tuple[str, int]] = {
    "F32": ("<u4", 0x7F800000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}


def tensor_names(module: str) -> tuple[str, str]:
    """What the A and the B of a module are called."""
    return _PREFIX + module + _SUFFIXES[0], _PREFIX + module + _SUFFIXES[1]


def tensor_violations(
    header: SafetensorsHeader, lora: LoraConfig, base: BaseModules
) -> Iterator[Violation]:
    """Names every tensor that is unknown, undeclared, unpaired, missing or misshapen."""
    present = {tensor.name for tensor in header.tensors}
    for tensor in header.tensors:
        problem = _problem(tensor, lora, base, present)
        if problem:
            yield Violation(tensor.name, problem.reason, problem.description)
    for module in lora.modules:
        if present.isdisjoint(tensor_names(module)):
            yield Violation(
                _PREFIX + module,
                Reason.TENSOR_MISSING,
                "is a declared target but has no tensor: save it or take it out of target_modules",
            )


def _problem(
    tensor: TensorInfo, lora: LoraConfig, base: BaseModules, present: set[str]
) -> Problem | None:
    """Why one tensor is refused; None when it is not."""
    suffix = next((s for s in _SUFFIXES if tensor.name.endswith(s)), None)
    if suffix is None or not tensor.name.startswith(_PREFIX):
        return Problem(
            Reason.TENSOR_UNEXPECTED,
            "is not a LoRA matrix: only base_model.model.….lora_A.weight and lora_B.weight are",
        )
    module = tensor.name[len(_PREFIX) : -len(suffix)]
    shape = base.shapes.get(module)
    if shape is None:
        description = f"adapts {module}, which is not an adaptable module of the base model"
        return Problem(Reason.TENSOR_MODULE_UNKNOWN, description)
    if module not in lora.modules:
        description = (
            f"adapts {module}, which the config does not declare: add it to target_modules"
        )
        return Problem(Reason.TENSOR_UNDECLARED, description)
    other = _SUFFIXES[1 - _SUFFIXES.index(suffix)]
    if _PREFIX + module + other not in present:
        description = f"has no counterpart {_PREFIX + module + other}: save both"
        return Problem(Reason.TENSOR_UNPAIRED, description)
    rank = lora.modules[module].rank
    is_a = suffix == _SUFFIXES[0]
    expected = (rank, shape.in_features) if is_a else (shape.out_features, rank)
    if tensor.shape != expected:
        return Problem(
            Reason.TENSOR_SHAPE_MISMATCH,
            f"has shape {list(tensor.shape)}, but rank {rank} on this base model needs "
            f"{list(expected)}",
        )
    return None


def finite_violations(file: BinaryIO, header: SafetensorsHeader) -> Iterator[Violation]:
    """Names every tensor with an infinite or not-a-number element. Reads the file once."""
    for tensor in header.tensors:
        file.seek(header.data_start + tensor.begin)
        if not _is_finite(file, tensor):
            description = "has an element that is infinite or not a number"
            yield Violation(tensor.name, Reason.TENSOR_NOT_FINITE, description)


def are_finite(data: bytes | bytearray, dtype: str) -> bool:
    """Whether all elements of `dtype` in these little-endian bytes are finite numbers."""
    word, exponent = _EXPONENTS[dtype]
    return not bool((np.frombuffer(data, dtype=word) & exponent == exponent).any())


def _is_finite(file: BinaryIO, tensor: TensorInfo) -> bool:
    remaining = tensor.end - tensor.begin
    while remaining:
        data = file.read(min(_READ_BYTES, remaining))
        if not data or not are_finite(data, tensor.dtype):
            return False
        remaining -= len(data)
    return True
