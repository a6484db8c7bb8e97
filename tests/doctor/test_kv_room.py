"""The size of a token's KV, read off a config."""

import json

import pytest

from lorikeet.doctor.kv_room import kv_bytes_per_token

TINYLLAMA = {
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "hidden_size": 2048,
}


@pytest.mark.parametrize(
    ("config", "dtype", "expected"),
    [
        (TINYLLAMA, "bfloat16", 2 * 22 * 4 * 64 * 2),
        ({**TINYLLAMA, "num_key_value_heads": None}, "bfloat16", 2 * 22 * 32 * 64 * 2),
        ({**TINYLLAMA, "head_dim": 128}, "float32", 2 * 22 * 4 * 128 * 4),
        ({"text_config": TINYLLAMA}, "float16", 2 * 22 * 4 * 64 * 2),
        ({"n_layer": 3}, "float32", None),
        (TINYLLAMA, "int4", None),
    ],
)
def test_keys_and_values_of_all_layers(
    config: dict[str, object], dtype: str, expected: int | None
) -> None:
    assert kv_bytes_per_token(json.dumps(config), dtype) == expected
