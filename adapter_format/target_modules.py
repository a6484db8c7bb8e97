"""Which modules of a base model a LoRA config names, by PEFT's rules. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from adapter_format.base_modules import BaseModules, ends_of, layer_of
from adapter_format.name_pattern import MatchBudget, NamePattern
from adapter_format.name_syntax import PatternError
from adapter_format.violation import Reason, shown

ALL_LINEAR = "all-linear"
_MAX_TARGETS = 1024
# PEFT takes layers_pattern for a regular expression too; nobody needs more than a name there.
_LAYERS_NAME = re.compile(r"[A-Za-z0-9_.]{1,200}")


class TargetError(ValueError):
    """Why a field that names modules is refused."""

    def __init__(self, field: str, reason: Reason, description: str) -> None:
        super().__init__(f"{field} {description}")
        self.field = field
        self.reason = reason
        self.description = description


def adapted_modules(config: Mapping[str, Any], base: BaseModules, budget: MatchBudget) -> list[str]:
    """Full names in model order, at least one. Raises TargetError."""
    targets = config.get("target_modules")
    excluded = _Excluded(config.get("exclude_modules"), budget)
    if isinstance(targets, str):
        _refuse_layers_beside_pattern(config)
        named = _matching(targets, base, excluded, budget)
    else:
        named = _listed(targets, base, _layers(config, base.num_layers))
    names = [name for name in base.shapes if name in named and not excluded.has(name)]
    if not names:
        description = "names no adaptable module of the base model"
        raise TargetError("target_modules", Reason.TARGETS_EMPTY, description)
    return names


class _Excluded:
    """exclude_modules: a pattern of full names, or a list of names and their ends."""

    def __init__(self, excluded: Any, budget: MatchBudget) -> None:
        self._pattern: NamePattern | None = None
        self._ends: frozenset[str] = frozenset()
        if not excluded:
            if excluded not in (None, "", []):
                description = f"is {shown(excluded)}: use a list or null"
                raise TargetError("exclude_modules", Reason.FIELD_TYPE, description)
        elif isinstance(excluded, str):
            self._pattern = _pattern("exclude_modules", excluded, budget)
        elif _is_names(excluded):
            self._ends = frozenset(excluded)
        else:
            description = f"must be a pattern or a list of at most {_MAX_TARGETS} module names"
            raise TargetError("exclude_modules", Reason.FIELD_TYPE, description)

    def has(self, name: str) -> bool:
        if self._pattern is not None:
            return _matches("exclude_modules", self._pattern, name)
        return not self._ends.isdisjoint(ends_of(name))


def _pattern(field: str, text: str, budget: MatchBudget) -> NamePattern:
    try:
        return NamePattern(text, budget)
    except PatternError as error:
        description = f"is {shown(text)}, a pattern that {error}"
        raise TargetError(field, error.reason, description) from error


def _matches(field: str, pattern: NamePattern, name: str) -> bool:
    try:
        return pattern.matches(name)
    except PatternError as error:
        raise TargetError(field, error.reason, f"is a pattern that {error}") from error


def _is_names(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 0 < len(value) <= _MAX_TARGETS
        and all(isinstance(item, str) for item in value)
    )


def _refuse_layers_beside_pattern(config: Mapping[str, Any]) -> None:
    for field in ("layers_to_transform", "layers_pattern"):
        if config.get(field) is not None:
            description = "needs a list in target_modules: PEFT refuses it with a text"
            raise TargetError(field, Reason.LAYERS_INVALID, description)


def _matching(target: str, base: BaseModules, excluded: _Excluded, budget: MatchBudget) -> set[str]:
    if target.lower() == ALL_LINEAR:
        return set(base.shapes)
    pattern = _pattern("target_modules", target, budget)
    for name in base.others():
        if _matches("target_modules", pattern, name) and not excluded.has(name):
            description = f"matches {name}, which cannot be adapted"
            raise TargetError("target_modules", Reason.TARGET_NOT_ADAPTABLE, description)
    return {name for name in base.shapes if _matches("target_modules", pattern, name)}


def _listed(targets: Any, base: BaseModules, layers: frozenset[int]) -> set[str]:
    if not _is_names(targets):
        description = f"must be a pattern or a list of at most {_MAX_TARGETS} module names"
        raise TargetError("target_modules", Reason.FIELD_TYPE, description)
    names: set[str] = set()
    for target in targets:
        found = base.by_suffix.get(target)
        if found is None:
            raise TargetError(
                "target_modules",
                Reason.TARGET_UNKNOWN,
                f"{shown(target)} is not an adaptable module of the base model: these are "
                f"{', '.join(base.kinds)}",
            )
        # PEFT applies the choice of layers to names that end in the target, not to full names.
        names.update(name for name in found if name == target or layer_of(name) in layers)
    return names


def _layers(config: Mapping[str, Any], num_layers: int) -> frozenset[int]:
    """The layers of layers_to_transform; all of them when it is absent or empty."""
    chosen, pattern = config.get("layers_to_transform"), config.get("layers_pattern")
    _check_layers_pattern(pattern)
    if chosen is None or chosen == []:
        if pattern:
            description = "needs layers_to_transform"
            raise TargetError("layers_pattern", Reason.LAYERS_INVALID, description)
        return frozenset(range(num_layers))
    layers = chosen if isinstance(chosen, list) else [chosen]
    if not all(type(layer) is int and 0 <= layer < num_layers for layer in layers):
        description = f"is {shown(chosen)}: the base model has layers 0 to {num_layers - 1}"
        raise TargetError("layers_to_transform", Reason.LAYERS_INVALID, description)
    return frozenset(layers)


def _check_layers_pattern(pattern: Any) -> None:
    """None or empty means any list of layers; a base model has one, which is model.layers."""
    if pattern in (None, "", []):
        return
    patterns = [pattern] if isinstance(pattern, str) else pattern
    if not _is_names(patterns) or not all(_LAYERS_NAME.fullmatch(item) for item in patterns):
        description = f"is {shown(pattern)}: use 'layers' or null"
        raise TargetError("layers_pattern", Reason.LAYERS_INVALID, description)
    # PEFT's expression; names without repetition in them are safe to put into it.
    if not any(re.match(rf"(?:^|.*?\.){item}\.\d+\.", "model.layers.0.") for item in patterns):
        description = f"is {shown(pattern)}: the layers of the base model are 'layers'"
        raise TargetError("layers_pattern", Reason.LAYERS_INVALID, description)
