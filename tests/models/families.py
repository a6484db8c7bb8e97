"""A tiny configuration of every family, with what sets it apart made to matter."""

from typing import Any

WINDOW = 24
# By name: the model type of transformers, and what differs from tests.checkpoints.TINY.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-3": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    "mistral": ("mistral", {"sliding_window": WINDOW}),
    "qwen2": ("qwen2", {}),
    "qwen2-window": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", {"head_dim": 24}),
    "phi-2": ("phi", {"num_key_value_heads": 4, "rope_parameters": None, "head_dim": 20}),
    "phi-3": ("phi3", {"sliding_window": WINDOW, "pad_token_id": 0}),
    "phi-3-longrope": (
        "phi3",
        {
            "pad_token_id": 0,
            "original_max_position_embeddings": 128,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0, 1.1, 1.3, 1.7, 2.1, 2.2],
                "long_factor": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
                "partial_rotary_factor": 0.75,
            },
        },
    ),
}
