"""Hostile tensors: well laid out, but not finite, or not what the config declares."""

from collections.abc import Callable, Sequence
from random import Random

import numpy as np

from adapter_format.violation import Reason
from tests.registry.hostile.draft import BYTES, Draft, encoded
from tests.registry.hostile.kinds import Kind, Variant
from tests.registry.support import tensor_name


def _not_finite(draft: Draft, random: Random) -> str:
    name = random.choice(draft.tensors)
    entry = draft.entries[name]
    value = random.choice([np.nan, np.inf, -np.inf])
    width = BYTES[entry["dtype"]]
    begin, end = entry["data_offsets"]
    at = random.randrange(begin, end, width)
    draft.data[at : at + width] = encoded(np.array([value]), entry["dtype"])
    return name


def _extra(make: Callable[[Random], tuple[str, list[int]]]) -> Variant:
    def spoil(draft: Draft, random: Random) -> str:
        name, shape = make(random)
        draft.add(name, shape)
        return name

    return spoil


def _undeclared(draft: Draft, random: Random) -> Sequence[str]:
    target = draft.config["target_modules"].pop(random.randrange(2))
    return [name for name in draft.tensors if f".{target}." in name]


def _unpaired(draft: Draft, random: Random) -> str:
    name = random.choice(draft.tensors)
    draft.drop(name)
    other = {"A": "B", "B": "A"}[name[-len("A.weight")]]
    return name[: -len("A.weight")] + f"{other}.weight"


def _missing(draft: Draft, random: Random) -> str:
    module = random.choice(draft.tensors).rpartition(".lora_")[0]
    for matrix in "AB":
        draft.drop(f"{module}.lora_{matrix}.weight")
    return module


def _other_rank(draft: Draft, random: Random) -> Sequence[str]:
    draft.config["r"] += random.randint(1, 100)
    return draft.tensors


def _transposed(draft: Draft, random: Random) -> str:
    name = random.choice(draft.tensors)
    draft.entries[name]["shape"].reverse()
    return name


def _flat(draft: Draft, random: Random) -> str:
    name = random.choice(draft.tensors)
    shape = draft.entries[name]["shape"]
    size = shape[0] * shape[1]
    draft.entries[name]["shape"] = random.choice([[size], [*shape, 1], [1, *shape]])
    return name


TENSOR_KINDS = (
    *(
        Kind(f"NaN or infinity in {dtype}", Reason.TENSOR_NOT_FINITE, (_not_finite,), dtype)
        for dtype in BYTES
    ),
    Kind(
        "a tensor that is no LoRA matrix",
        Reason.TENSOR_UNEXPECTED,
        (
            _extra(lambda r: (r.choice(["lm_head.weight", "lora_A.weight", "base.x"]), [2, 2])),
            _extra(lambda r: (tensor_name(0, "mlp.up_proj", "A") + r.choice(["_", ".bias"]), [2])),
            _extra(lambda r: (tensor_name(0, "mlp.up_proj", "A").replace("lora_A", "lora_C"), [2])),
        ),
    ),
    Kind(
        "a tensor of an unknown module",
        Reason.TENSOR_MODULE_UNKNOWN,
        (
            _extra(lambda r: (tensor_name(r.choice([2, 99]), "mlp.up_proj", "A"), [1, 16])),
            _extra(lambda r: (tensor_name(0, r.choice(["mlp.gate", "x_proj"]), "B"), [16, 1])),
        ),
    ),
    Kind("a tensor that is not declared", Reason.TENSOR_UNDECLARED, (_undeclared,)),
    Kind("half a pair of tensors", Reason.TENSOR_UNPAIRED, (_unpaired,)),
    Kind("a declared module without tensors", Reason.TENSOR_MISSING, (_missing,)),
    Kind(
        "a tensor of another shape",
        Reason.TENSOR_SHAPE_MISMATCH,
        (_other_rank, _transposed, _flat),
    ),
)
