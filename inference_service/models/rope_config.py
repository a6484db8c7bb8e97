"""The rotary embedding that a config asks for."""

import math

from inference_service.models.config_fields import ConfigFields
from inference_service.models.spec import RopeSpec

# The fields of each kind, beside those of all; "su" is what the first Phi-3 configs say.
_KINDS = {
    "default": set[str](),
    "linear": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor"},
    "longrope": {"factor", "short_factor", "long_factor", "attention_factor"},
}
_OF_ALL = {"rope_theta", "rope_type", "type", "partial_rotary_factor"}
_OF_ALL |= {"original_max_position_embeddings"}
_OLD_NAMES = {"su": "longrope"}


def read_rope(
    config: ConfigFields, head_dim: int, kinds: tuple[str, ...], rotary_part: float | None = None
) -> RopeSpec:
    """`rotary_part` of a head rotates unless the config says otherwise; None: all of it, always.

    transformers 5 writes rope_parameters; before, rope_theta and rope_scaling.
    """
    rope = config.part("rope_scaling")
    if not rope.present():
        rope = config.part("rope_parameters")
    kind = _kind(rope, kinds)
    for field in sorted(rope.present() - _OF_ALL - _KINDS[kind]):
        raise rope.refusal(field, f"is not supported with rope_type {kind!r}")
    theta = rope.number("rope_theta", config.number("rope_theta", 10000.0))
    rotary_dim = _rotary_dim(config, rope, head_dim, rotary_part)
    if kind == "linear":
        return RopeSpec(theta, rotary_dim, kind, rope.number("factor"))
    if kind == "llama3":
        return RopeSpec(
            theta,
            rotary_dim,
            kind,
            rope.number("factor"),
            rope.number("low_freq_factor"),
            rope.number("high_freq_factor"),
            _original_max_positions(config, rope, config.integer("max_position_embeddings")),
        )
    if kind == "longrope":
        return _longrope(config, rope, theta, rotary_dim)
    return RopeSpec(theta, rotary_dim)


def _kind(rope: ConfigFields, kinds: tuple[str, ...]) -> str:
    field = "rope_type" if rope.get("rope_type") is not None else "type"
    kind = rope.text(field, "default")
    kind = _OLD_NAMES.get(kind, kind)
    if kind not in kinds:
        raise rope.refusal(field, f"is not supported ({', '.join(kinds)} is): rope_type {kind!r}")
    return kind


def _rotary_dim(
    config: ConfigFields, rope: ConfigFields, head_dim: int, rotary_part: float | None
) -> int:
    field = "partial_rotary_factor"
    where = rope if rope.get(field) is not None else config
    part = where.number(field, rotary_part or 1.0)
    if rotary_part is None and part != 1.0:
        raise where.refusal(field, "is not supported in this family")
    rotary_dim = int(head_dim * part)
    if not 0 < rotary_dim <= head_dim or rotary_dim % 2:
        raise where.refusal(field, f"makes {rotary_dim} of {head_dim} elements of a head rotate")
    return rotary_dim


def _longrope(config: ConfigFields, rope: ConfigFields, theta: float, rotary_dim: int) -> RopeSpec:
    """The short factors alone: contexts end where a model begins to use the long ones.

    Beyond, transformers computes the keys of the whole context again with the long factors, so
    cached keys would be wrong.
    """
    rope.numbers("long_factor", rotary_dim // 2)
    original = _original_max_positions(config, rope, 4096)
    factor = rope.number("factor", config.integer("max_position_embeddings") / original)
    scale = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    return RopeSpec(
        theta,
        rotary_dim,
        "longrope",
        original_max_positions=original,
        short_factors=rope.numbers("short_factor", rotary_dim // 2),
        scale=rope.number("attention_factor", scale),
    )


def _original_max_positions(config: ConfigFields, rope: ConfigFields, absent: int) -> int:
    """The config's own field, or that of its rotary embedding; where both are, they agree."""
    field = "original_max_position_embeddings"
    original = rope.integer(field, config.integer(field, absent))
    if config.integer(field, original) != original:
        raise rope.refusal(field, f"is not the config's own, {config.get(field)}")
    return original
