"""What an engine is told when it starts."""

from typing import Literal

import msgspec

DEFAULT_MEMORY_BYTES = 1 << 30


class EngineConfig(msgspec.Struct, frozen=True):
    """`max_model_len` 0 means the model's own; `num_threads` 0: one for a small model,
    else torch's choice.

    dtype "auto" is the checkpoint's, or float32 where the device cannot compute in that.
    """

    model_path: str
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    max_model_len: int = 0
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 2048
    max_lora_rank: int = 256
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    num_threads: int = 0
