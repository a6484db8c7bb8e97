"""The two files of an adapter, held against each other and against the base model. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from adapter_format.base_modules import BaseModules
from adapter_format.lora_config import LoraConfig, read_lora_config
from adapter_format.lora_tensors import tensor_violations
from adapter_format.safetensors_header import (
    LENGTH_BYTES,
    HeaderError,
    SafetensorsHeader,
    header_length,
    parse_header,
)
from adapter_format.violation import Violation

WEIGHTS_FILE = "adapter_model.safetensors"
MAX_CONFIG_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Reading:
    """What could be read of an artifact, and all that is wrong but for the tensors' values."""

    lora: LoraConfig | None
    header: SafetensorsHeader | None
    violations: list[Violation]


def read_artifact(
    config: Mapping[str, Any], weights: BinaryIO, size: int, base: BaseModules, max_rank: int
) -> Reading:
    """Reads no more of `weights`, a file of `size` bytes, than its header."""
    lora, violations = read_lora_config(config, base, max_rank)
    header, header_violations = _read_header(weights, size)
    violations += header_violations
    if lora is not None and header is not None:
        violations += tensor_violations(header, lora, base)
    return Reading(lora, header, violations)


def _read_header(weights: BinaryIO, size: int) -> tuple[SafetensorsHeader | None, list[Violation]]:
    try:
        length = header_length(weights.read(LENGTH_BYTES), size, WEIGHTS_FILE)
        return parse_header(weights.read(length), size, WEIGHTS_FILE), []
    except HeaderError as error:
        return None, error.violations
