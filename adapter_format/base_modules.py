"""Which modules of a base model an adapter may adapt, and the shape of each."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

_LAYER = re.compile(r"model\.layers\.(\d+)\.")


@dataclass(frozen=True)
class LinearShape:
    """A projection of the base model: y[out] = W[out, in] x[in]."""

    in_features: int
    out_features: int


@dataclass(frozen=True)
class BaseModules:
    """`shapes` maps every adaptable module's full name to its shape, in model order."""

    num_layers: int
    shapes: Mapping[str, LinearShape]

    @cached_property
    def by_suffix(self) -> Mapping[str, list[str]]:
        """Every module under its full name and under each end of it that begins after a dot."""
        result: dict[str, list[str]] = {}
        for module in self.shapes:
            for end in ends_of(module):
                result.setdefault(end, []).append(module)
        return result

    @property
    def kinds(self) -> list[str]:
        """The last parts of the modules' names, such as q_proj, in model order."""
        return list(dict.fromkeys(name.rpartition(".")[2] for name in self.shapes))

    def others(self) -> Iterator[str]:
        """Modules that every base model has and no adapter may touch; patterns may match them."""
        yield from ("model", "model.embed_tokens", "model.layers", "lm_head")
        for layer in range(self.num_layers):
            path = f"model.layers.{layer}"
            yield from (path, f"{path}.self_attn", f"{path}.mlp")


def ends_of(module: str) -> list[str]:
    """A module's full name, and each end of it that begins after a dot."""
    parts = module.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]


def layer_of(module: str) -> int:
    """The layer that an adaptable module lies in."""
    match = _LAYER.match(module)
    assert match is not None, "every adaptable module lies in a layer"
    return int(match.group(1))
