"""PEFT semantics: which modules a LoRA config adapts, at which rank and scaling. Pure.

Held to PEFT's own functions by tests: check_target_module_exists and get_pattern_key.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adapter_format.base_modules import BaseModules
from adapter_format.config_fields import CONFIG_FILE, field_violations
from adapter_format.name_pattern import MatchBudget, SuffixPattern
from adapter_format.name_syntax import PatternError
from adapter_format.target_modules import TargetError, adapted_modules
from adapter_format.violation import Reason, Violation, shown

# Enough to name every module of a large model one by one; more only costs time.
MAX_ENTRIES = 1024
_MAX_ALPHA = 1e9


@dataclass(frozen=True)
class LoraModule:
    """One module: y += scaling * (x A^T) B^T, with A [rank, in] and B [out, rank]."""

    rank: int
    scaling: float


@dataclass(frozen=True)
class LoraConfig:
    """`modules` maps the full name of every adapted module to its LoRA, in model order."""

    modules: Mapping[str, LoraModule]


def read_lora_config(
    config: Mapping[str, Any], base: BaseModules, max_rank: int
) -> tuple[LoraConfig | None, list[Violation]]:
    """What `config` adapts in `base`, or None with every reason it is refused."""
    violations = [*field_violations(config), *_value_violations(config, max_rank)]
    if violations:
        return None, violations
    budget = MatchBudget()
    try:
        names = adapted_modules(config, base, budget)
        ranks = _by_pattern("rank_pattern", config, names, config["r"], budget)
        alphas = _by_pattern("alpha_pattern", config, names, config["lora_alpha"], budget)
    except TargetError as error:
        return None, [_refused(error.field, error.reason, error.description)]
    divisor = math.sqrt if config.get("use_rslora") else float
    return LoraConfig(
        {name: LoraModule(ranks[name], alphas[name] / divisor(ranks[name])) for name in names}
    ), []


def _value_violations(config: Mapping[str, Any], max_rank: int) -> Iterator[Violation]:
    if config.get("peft_type") != "LORA":
        found = shown(config.get("peft_type"))
        description = f"is {found}: only 'LORA' is supported"
        yield _refused("peft_type", Reason.FIELD_UNSUPPORTED, description)
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        description = f"is {shown(config['task_type'])}: only 'CAUSAL_LM' is served"
        yield _refused("task_type", Reason.FIELD_UNSUPPORTED, description)
    if not isinstance(config.get("use_rslora", False), bool):
        yield _refused("use_rslora", Reason.FIELD_TYPE, "must be true or false")
    yield from _rank_violations("r", config.get("r"), max_rank)
    yield from _alpha_violations("lora_alpha", config.get("lora_alpha"))
    for field, check in (
        ("rank_pattern", lambda name, value: _rank_violations(name, value, max_rank)),
        ("alpha_pattern", _alpha_violations),
    ):
        patterns = config.get(field) or {}
        if not isinstance(patterns, dict) or len(patterns) > MAX_ENTRIES:
            description = f"must be an object of at most {MAX_ENTRIES} entries"
            yield _refused(field, Reason.FIELD_TYPE, description)
            continue
        for value in patterns.values():
            yield from check(field, value)


def _rank_violations(field: str, value: Any, max_rank: int) -> Iterator[Violation]:
    if type(value) is not int or value < 1:
        description = f"is {shown(value)}: a rank is a positive integer"
        yield _refused(field, Reason.RANK_INVALID, description)
    elif value > max_rank:
        description = f"asks for rank {shown(value)}: the largest rank served here is {max_rank}"
        yield _refused(field, Reason.RANK_TOO_LARGE, description)


def _alpha_violations(field: str, value: Any) -> Iterator[Violation]:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= _MAX_ALPHA:
        description = f"is {shown(value)}: a positive number up to 1e9 is needed"
        yield _refused(field, Reason.ALPHA_INVALID, description)


def _by_pattern(
    field: str, config: Mapping[str, Any], names: list[str], default: Any, budget: MatchBudget
) -> dict[str, Any]:
    """PEFT's rule: the first pattern that matches the end of a module's name decides."""
    entries: Mapping[str, Any] = config.get(field) or {}
    patterns = [(_pattern(field, text, budget), value) for text, value in entries.items()]
    try:
        return {
            name: next((value for pattern, value in patterns if pattern.matches(name)), default)
            for name in names
        }
    except PatternError as error:
        raise TargetError(field, error.reason, f"has a pattern that {error}") from error


def _pattern(field: str, text: str, budget: MatchBudget) -> SuffixPattern:
    try:
        return SuffixPattern(text, budget)
    except PatternError as error:
        description = f"has the key {shown(text)}, a pattern that {error}"
        raise TargetError(field, error.reason, description) from error


def _refused(field: str, reason: Reason, description: str) -> Violation:
    return Violation(f"{CONFIG_FILE}:{field}", reason, description)
