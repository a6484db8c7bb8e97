"""How far back each layer's attention reaches, as transformers reads it off a config."""

from inference_service.models.config_fields import ConfigFields

_FULL, _SLIDING = "full_attention", "sliding_attention"


def no_windows(config: ConfigFields) -> tuple[int, ...]:
    """Of a family whose attention is always full."""
    window = config.optional_integer("sliding_window", None)
    switched_off = config.get("use_sliding_window") is False
    if window and not switched_off and window < config.integer("max_position_embeddings"):
        raise config.refusal("sliding_window", "is not supported in this family")
    if set(_layer_types(config) or ()) - {_FULL}:
        raise config.refusal("layer_types", "is not supported: this family's attention is full")
    return ()


def one_window(config: ConfigFields, absent: int | None) -> tuple[int, ...]:
    """Of a family in which all layers have one window, which is `absent` without the field."""
    window = config.optional_integer("sliding_window", absent)
    kind = _FULL if window is None else _SLIDING
    if set(_layer_types(config) or ()) - {kind}:
        raise config.refusal("layer_types", f"is not {kind} in all layers, as this family is")
    return (window or 0,) * config.integer("num_hidden_layers")


def layered_windows(config: ConfigFields) -> tuple[int, ...]:
    """Of Qwen: from max_window_layers on, or as layer_types says, if use_sliding_window is true."""
    num_layers = config.integer("num_hidden_layers")
    window = None
    if config.flag("use_sliding_window"):
        window = config.optional_integer("sliding_window", 4096)
    first = config.integer("max_window_layers", 28, least=0)
    types = _layer_types(config)
    if types is None:
        types = [_SLIDING if window and layer >= first else _FULL for layer in range(num_layers)]
    if _SLIDING in types and not window:
        raise config.refusal("layer_types", "has sliding_attention, but there is no window")
    return tuple((window or 0) if kind == _SLIDING else 0 for kind in types)


def _layer_types(config: ConfigFields) -> list[str] | None:
    types = config.get("layer_types")
    if types is None:
        return None
    known = isinstance(types, list) and all(kind in (_FULL, _SLIDING) for kind in types)
    if not known or len(types) != config.integer("num_hidden_layers"):
        raise config.refusal("layer_types", f"is not a list of {_FULL} or {_SLIDING} per layer")
    return list(types)
