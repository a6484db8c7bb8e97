"""PEFT semantics: which modules a LoRA config adapts, and at which rank. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lorikeet.rpc.errors import FieldViolation
from registry_service.artifacts.base_config import BaseArchitecture
from registry_service.artifacts.peft_fields import CONFIG_FILE, field_violations
from registry_service.requests import shown

ALL_LINEAR = "all-linear"

# PEFT takes keys of rank_pattern and alpha_pattern for regular expressions. One from a stranger can
# keep a matcher busy for years, so only those without repetition, groups or classes are taken.
_SAFE_PATTERN = re.compile(r"\^?(?:[A-Za-z0-9_.]|\\\.){1,200}")
# Enough to name every module of a large model one by one; more only costs time.
_MAX_ENTRIES = 1024
_MAX_ALPHA = 1e9
_LAYER = re.compile(r"model\.layers\.(\d+)\.")


@dataclass(frozen=True)
class LoraConfig:
    """`ranks` maps the full name of every adapted module to its rank, in model order."""

    ranks: Mapping[str, int]


def read_lora_config(
    config: Mapping[str, Any], base: BaseArchitecture, max_rank: int
) -> tuple[LoraConfig | None, list[FieldViolation]]:
    """What `config` adapts in `base`, or None with every reason it is refused."""
    violations = [*field_violations(config), *_value_violations(config, max_rank)]
    if violations:
        return None, violations
    modules, violations = _adapted_modules(config, base)
    if violations:
        return None, violations
    ranks = _ranks(modules, config["r"], config.get("rank_pattern") or {})
    return LoraConfig(ranks), []


def _value_violations(config: Mapping[str, Any], max_rank: int) -> Iterator[FieldViolation]:
    if config.get("peft_type") != "LORA":
        found = shown(config.get("peft_type"))
        yield _refused("peft_type", f"is {found}: only 'LORA' is supported")
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        yield _refused("task_type", f"is {shown(config['task_type'])}: only 'CAUSAL_LM' is served")
    if not isinstance(config.get("use_rslora", False), bool):
        yield _refused("use_rslora", "must be true or false")
    yield from _rank_violations("r", config.get("r"), max_rank)
    yield from _alpha_violations("lora_alpha", config.get("lora_alpha"))
    for field, check in (
        ("rank_pattern", lambda name, value: _rank_violations(name, value, max_rank)),
        ("alpha_pattern", _alpha_violations),
    ):
        yield from _pattern_violations(field, config.get(field) or {}, check)


def _rank_violations(field: str, value: Any, max_rank: int) -> Iterator[FieldViolation]:
    if type(value) is not int or value < 1:
        yield _refused(field, f"is {shown(value)}: a rank is a positive integer")
    elif value > max_rank:
        yield _refused(field, f"is {value}: the largest rank served here is {max_rank}")


def _alpha_violations(field: str, value: Any) -> Iterator[FieldViolation]:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= _MAX_ALPHA:
        yield _refused(field, f"is {shown(value)}: a positive number is needed")


def _pattern_violations(field: str, patterns: Any, check: Any) -> Iterator[FieldViolation]:
    if not isinstance(patterns, dict) or len(patterns) > _MAX_ENTRIES:
        yield _refused(field, f"must be an object of at most {_MAX_ENTRIES} entries")
        return
    for pattern, value in patterns.items():
        if not _SAFE_PATTERN.fullmatch(pattern):
            yield _refused(
                field,
                f"has the key {shown(pattern)}: regular expressions are not supported, "
                "write out each module's name",
            )
        yield from check(field, value)


def _ranks(modules: list[str], rank: int, patterns: Mapping[str, int]) -> dict[str, int]:
    """PEFT's rule: the first pattern that matches the end of a module's name decides."""
    compiled = [(re.compile(rf"(.*\.)?({pattern})$"), patterns[pattern]) for pattern in patterns]
    return {
        module: next((value for regex, value in compiled if regex.match(module)), rank)
        for module in modules
    }


def _adapted_modules(
    config: Mapping[str, Any], base: BaseArchitecture
) -> tuple[list[str], list[FieldViolation]]:
    targets = config.get("target_modules")
    layers, violations = _layers(config, base.num_layers)
    if isinstance(targets, str):
        return _adapted_by_keyword(targets, layers, base)
    if not isinstance(targets, list) or not targets or len(targets) > _MAX_ENTRIES:
        violations.append(_refused("target_modules", "must be a list of module names"))
        return [], violations
    suffixes = _modules_by_suffix(base)
    matched: set[str] = set()
    for target in targets:
        named = suffixes.get(target, []) if isinstance(target, str) else []
        if not named:
            violations.append(_unknown_target(target))
        # PEFT applies the choice of layers to names that end in the target, not to full names.
        matched.update(name for name in named if name == target or _layer_of(name) in layers)
    return [name for name in base.modules if name in matched], violations


def _modules_by_suffix(base: BaseArchitecture) -> dict[str, list[str]]:
    """Every module under its full name and under each end of it that begins after a dot."""
    result: dict[str, list[str]] = {}
    for module in base.modules:
        parts = module.split(".")
        for start in range(len(parts)):
            result.setdefault(".".join(parts[start:]), []).append(module)
    return result


def _adapted_by_keyword(
    target: str, layers: frozenset[int], base: BaseArchitecture
) -> tuple[list[str], list[FieldViolation]]:
    if target.lower() != ALL_LINEAR:
        description = (
            f"is {shown(target)}: regular expressions are not supported, list the module names "
            f"or write '{ALL_LINEAR}'"
        )
        return [], [_refused("target_modules", description)]
    if len(layers) != base.num_layers:
        description = "needs a list in target_modules"
        return [], [_refused("layers_to_transform", description)]
    return list(base.modules), []


def _layers(
    config: Mapping[str, Any], num_layers: int
) -> tuple[frozenset[int], list[FieldViolation]]:
    """The layers of layers_to_transform; all of them when it is absent."""
    chosen, pattern = config.get("layers_to_transform"), config.get("layers_pattern")
    violations = []
    if pattern not in (None, "", [], "layers", ["layers"]):
        violations.append(_refused("layers_pattern", f"is {shown(pattern)}: use 'layers' or null"))
    if chosen is None or chosen == []:
        if pattern:
            violations.append(_refused("layers_pattern", "needs layers_to_transform"))
        return frozenset(range(num_layers)), violations
    layers = chosen if isinstance(chosen, list) else [chosen]
    if not all(type(layer) is int and 0 <= layer < num_layers for layer in layers):
        description = f"is {shown(chosen)}: the base model has layers 0 to {num_layers - 1}"
        violations.append(_refused("layers_to_transform", description))
        return frozenset(range(num_layers)), violations
    return frozenset(layers), violations


def _layer_of(module: str) -> int:
    match = _LAYER.match(module)
    assert match is not None, "every adaptable module lies in a layer"
    return int(match.group(1))


def _unknown_target(target: Any) -> FieldViolation:
    return _refused(
        "target_modules",
        f"{shown(target)} is not an adaptable module of the base model: these are q_proj, k_proj, "
        "v_proj, o_proj, gate_proj, up_proj and down_proj",
    )


def _refused(field: str, description: str) -> FieldViolation:
    return FieldViolation(f"{CONFIG_FILE}:{field}", description)
