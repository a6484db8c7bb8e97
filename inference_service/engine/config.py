"""What an engine is told when it starts."""

from typing import Literal

import msgspec

DEFAULT_MEMORY_BYTES = 1 << 30
DEFAULT_GPU_MEMORY_UTILIZATION = 0.9


class EngineConfigError(ValueError):
    """Options that cannot be met; names the option and says what to do."""


class EngineConfig(msgspec.Struct, frozen=True):
    """`max_model_len` 0 means the model's own; `num_threads` 0: one for a small model,
    else torch's choice.

    KV, cached prefixes and adapters share one arena; `host_memory_bytes` are for packed adapters
    outside of it. `max_loras` and `max_cpu_loras` limit the adapters in the
    arena and in host memory by number as well; 0: no such limit.

    dtype "auto" is the checkpoint's, or float32 where the device cannot compute in that.

    `memory_bytes` is the arena's size. 0 means 1 GiB on a CPU; on a GPU what
    `gpu_memory_utilization`, a share of the device's memory in (0, 1], leaves after the weights and
    the activations of the largest prefill (None: 0.9). A CPU has no such share: there, and beside
    `memory_bytes`, setting it is refused.

    `cuda_graphs`: steps that only decode are recorded once per batch size, at start, and replayed.
    "auto" is on a GPU; "on" is refused where it cannot be.

    `overlap`: a step is chosen and launched before the tokens of the step before it are known to
    the host. "auto" is on a GPU; on a CPU it changes the order of things, and gains nothing.
    """

    model_path: str
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_model_len: int = 0
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 2048
    max_lora_rank: int = 512
    memory_bytes: int = 0
    gpu_memory_utilization: float | None = None
    cuda_graphs: Literal["auto", "on", "off"] = "auto"
    overlap: Literal["auto", "on", "off"] = "auto"
    max_loras: int = 0
    max_cpu_loras: int = 0
    host_memory_bytes: int = DEFAULT_MEMORY_BYTES
    prefix_caching: bool = True
    num_threads: int = 0
