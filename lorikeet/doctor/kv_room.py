"""How much memory a token takes, read off a model's config."""

import json
from typing import Final

_ELEMENT_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}


def kv_bytes_per_token(config_json: str, dtype: str) -> int | None:
    """Keys and values of all layers; None for a config that does not name its sizes."""
    config = json.loads(config_json)
    config = config.get("text_config", config)
    try:
        heads = config["num_attention_heads"]
        kv_heads = config.get("num_key_value_heads") or heads
        head_dim = config.get("head_dim") or config["hidden_size"] // heads
        elements: int = 2 * config["num_hidden_layers"] * kv_heads * head_dim
        return elements * _ELEMENT_BYTES[dtype]
    except KeyError:
        return None
