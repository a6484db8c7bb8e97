"""Judges one artifact: everything that is wrong with it, or what its version row says. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from adapter_format.artifact import read_artifact
from adapter_format.base_modules import BaseModules
from adapter_format.config_fields import CONFIG_FILE, unsafe_violations
from adapter_format.lora_config import LoraConfig
from adapter_format.lora_tensors import finite_violations
from adapter_format.strict_json import StrictJsonError, parse_object
from adapter_format.violation import UNSAFE, Reason, Violation, shown
from lorikeet.rpc.errors import (
    FailedPreconditionError,
    FieldViolation,
    InvalidArgumentError,
    LorikeetError,
)

# Errors travel in HTTP/2 trailers, which clients limit to 8 KiB.
_MAX_DETAIL_BYTES = 3000


@dataclass(frozen=True)
class BaseModelFacts:
    """What an adapter must have been trained on."""

    name: str
    source: str
    known_as: Sequence[str]
    revision: str
    architecture: BaseModules


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
        raise refusal([Violation(CONFIG_FILE, error.reason, str(error))]) from error
    mismatch = _base_violations(config, base)
    reading = read_artifact(config, weights, weights_size, base.architecture, max_rank)
    violations = [*unsafe_violations(config), *reading.violations]
    unsafe = [violation for violation in violations if violation.reason in UNSAFE]
    if unsafe:
        raise refusal(unsafe, "UNSAFE_FORMAT")
    if reading.header is not None:
        violations += finite_violations(weights, reading.header)
    if mismatch:
        raise refusal(mismatch + violations, "BASE_MODEL_MISMATCH")
    if violations:
        raise refusal(violations)
    assert reading.lora is not None, "nothing was wrong with the config"
    return _facts(reading.lora, base.architecture)


def _base_violations(config: Mapping[str, Any], base: BaseModelFacts) -> list[Violation]:
    violations = []
    trained_on, revision = config.get("base_model_name_or_path"), config.get("revision")
    if trained_on not in (base.source, *base.known_as):
        description = (
            f"is {shown(trained_on)}, but the adapter is registered for {base.name}, which is "
            f"{shown(base.source)}: register it for its own base model, or add the name to known_as"
        )
        field = f"{CONFIG_FILE}:base_model_name_or_path"
        violations.append(Violation(field, Reason.BASE_MODEL_OTHER, description))
    if revision not in (None, base.revision):
        description = f"is {shown(revision)}, but {base.name} is {shown(base.revision)}"
        field = f"{CONFIG_FILE}:revision"
        violations.append(Violation(field, Reason.BASE_REVISION_OTHER, description))
    return violations


def _facts(lora: LoraConfig, base: BaseModules) -> AdapterFacts:
    parameters = sum(
        module.rank * (base.shapes[name].in_features + base.shapes[name].out_features)
        for name, module in lora.modules.items()
    )
    targets = sorted({name.rpartition(".")[2] for name in lora.modules})
    rank = max(module.rank for module in lora.modules.values())
    return AdapterFacts(rank, tuple(targets), parameters)


def refusal(violations: Sequence[Violation], reason: str = "ADAPTER_INVALID") -> LorikeetError:
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


def _fitting(violations: Sequence[Violation]) -> list[FieldViolation]:
    kept: list[FieldViolation] = []
    size = 0
    for violation in violations:
        texts = (violation.field, violation.reason, violation.description)
        size += sum(len(text.encode()) for text in texts)
        if size > _MAX_DETAIL_BYTES and kept:
            break
        kept.append(FieldViolation(violation.field, violation.description, violation.reason))
    return kept
