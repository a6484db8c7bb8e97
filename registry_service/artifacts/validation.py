"""Judges one artifact: everything that is wrong with it, or what its version row says. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from lorikeet.rpc.errors import (
    FailedPreconditionError,
    FieldViolation,
    InvalidArgumentError,
    LorikeetError,
)
from registry_service.artifacts.base_config import BaseArchitecture
from registry_service.artifacts.lora_tensors import finite_violations, tensor_violations
from registry_service.artifacts.peft_config import LoraConfig, read_lora_config
from registry_service.artifacts.peft_fields import CONFIG_FILE, unsafe_violations
from registry_service.artifacts.safetensors_header import (
    LENGTH_BYTES,
    HeaderError,
    SafetensorsHeader,
    header_length,
    parse_header,
)
from registry_service.artifacts.strict_json import StrictJsonError, parse_object
from registry_service.requests import shown

WEIGHTS_FILE = "adapter_model.safetensors"

# Errors travel in HTTP/2 trailers, which clients limit to 8 KiB.
_MAX_DETAIL_BYTES = 3000


@dataclass(frozen=True)
class BaseModelFacts:
    """What an adapter must have been trained on."""

    name: str
    source: str
    known_as: Sequence[str]
    revision: str
    architecture: BaseArchitecture


@dataclass(frozen=True)
class AdapterFacts:
    """What a version row says about its adapter."""

    rank: int
    target_modules: tuple[str, ...]
    num_parameters: int


def validate_adapter(
    config_text: bytes, weights: BinaryIO, weights_size: int, base: BaseModelFacts, max_rank: int
) -> AdapterFacts:
    """Facts about a sound adapter; a typed error with every violation for any other."""
    try:
        config = parse_object(config_text)
    except StrictJsonError as error:
        raise refusal([FieldViolation(CONFIG_FILE, str(error))]) from error
    unsafe = list(unsafe_violations(config))
    if unsafe:
        raise refusal(unsafe, "UNSAFE_FORMAT")
    mismatch = _base_violations(config, base)
    lora, violations = read_lora_config(config, base.architecture, max_rank)
    header, header_violations = _read_header(weights, weights_size)
    violations += header_violations
    if lora is not None and header is not None:
        violations += tensor_violations(header, lora, base.architecture)
    if header is not None:
        violations += finite_violations(weights, header)
    if mismatch:
        raise refusal(mismatch + violations, "BASE_MODEL_MISMATCH")
    if violations or lora is None:
        raise refusal(violations)
    return _facts(lora, base.architecture)


def _read_header(
    weights: BinaryIO, size: int
) -> tuple[SafetensorsHeader | None, list[FieldViolation]]:
    try:
        length = header_length(weights.read(LENGTH_BYTES), size, WEIGHTS_FILE)
        return parse_header(weights.read(length), size, WEIGHTS_FILE), []
    except HeaderError as error:
        return None, error.violations


def _base_violations(config: Mapping[str, Any], base: BaseModelFacts) -> list[FieldViolation]:
    violations = []
    trained_on, revision = config.get("base_model_name_or_path"), config.get("revision")
    if trained_on not in (base.source, *base.known_as):
        description = (
            f"is {shown(trained_on)}, but the adapter is registered for {base.name}, which is "
            f"{shown(base.source)}: register it for its own base model, or add the name to known_as"
        )
        violations.append(FieldViolation(f"{CONFIG_FILE}:base_model_name_or_path", description))
    if revision not in (None, base.revision):
        description = f"is {shown(revision)}, but {base.name} is {shown(base.revision)}"
        violations.append(FieldViolation(f"{CONFIG_FILE}:revision", description))
    return violations


def _facts(lora: LoraConfig, base: BaseArchitecture) -> AdapterFacts:
    parameters = sum(
        rank * (base.modules[name].in_features + base.modules[name].out_features)
        for name, rank in lora.ranks.items()
    )
    targets = sorted({name.rpartition(".")[2] for name in lora.ranks})
    return AdapterFacts(max(lora.ranks.values()), tuple(targets), parameters)


def refusal(violations: Sequence[FieldViolation], reason: str = "ADAPTER_INVALID") -> LorikeetError:
    """The error for a refused artifact; as many violations as fit, and how many there are."""
    kind = FailedPreconditionError if reason == "BASE_MODEL_MISMATCH" else InvalidArgumentError
    first = violations[0]
    return kind(
        f"the adapter is refused, {len(violations)} violation(s): "
        f"{first.field}: {first.description}"[:500],
        reason=reason,
        metadata={"num_violations": str(len(violations))},
        violations=_fitting(violations),
    )


def _fitting(violations: Sequence[FieldViolation]) -> list[FieldViolation]:
    kept: list[FieldViolation] = []
    size = 0
    for violation in violations:
        size += len(violation.field.encode()) + len(violation.description.encode())
        if size > _MAX_DETAIL_BYTES and kept:
            break
        kept.append(violation)
    return kept
