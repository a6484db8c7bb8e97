"""What an engine is, and what it holds and has done by now, as it tells the front end."""

import msgspec

from inference_service.engine.step_stats import StepStats


class AdapterResidency(msgspec.Struct, frozen=True):
    """An adapter inside the engine.

    `tier` is "device" while it has pages in the arena, "host" while it is packed in host memory,
    else "disk". `size_bytes` are those of its pages, `host_bytes` of its image in host memory.
    `found_on`, in the answer to a `Load`, is the tier on which that found it.
    """

    digest: str
    tier: str
    pages: int
    size_bytes: int
    rank: int
    running_requests: int
    host_bytes: int = 0
    pinned: bool = False
    found_on: str = ""


class DeviceMemory(msgspec.Struct, frozen=True):
    """Bytes, read at one moment.

    On a GPU, total and available are the driver's figures, so they count what other processes hold;
    `process_bytes` is what PyTorch's allocator holds there. On a CPU they are the machine's total
    and available memory, and this process's resident set.
    """

    total_bytes: int
    available_bytes: int
    process_bytes: int

    @property
    def used_bytes(self) -> int:
        """By every process of the machine."""
        return self.total_bytes - self.available_bytes


class EngineStats(msgspec.Struct, frozen=True, tag="stats"):
    """One consistent reading: free + kv + cached + adapter pages = total.

    kv_pages are held by running requests, cached_pages keep prefixes that none of them uses.
    Counters run from the engine's start: preemptions, adapters read from disk, adapters evicted
    from the arena, tokens of started requests found in the prefix cache and looked for there.
    `device_memory` is what the driver, or the operating system, sees. `adapters` are those with
    bytes in the arena or in host memory, and those waited for: known ones can be ever so many more.
    """

    call_id: int
    page_bytes: int
    total_pages: int
    free_pages: int
    kv_pages: int
    adapter_pages: int
    num_running: int
    num_waiting: int
    num_steps: int
    steps: StepStats
    adapters: list[AdapterResidency]
    cached_pages: int = 0
    host_bytes: int = 0
    max_host_bytes: int = 0
    num_preemptions: int = 0
    num_adapter_loads: int = 0
    num_adapter_evictions: int = 0
    num_prefix_hits: int = 0
    num_prefix_queries: int = 0
    device_memory: DeviceMemory | None = None


class EngineInfo(msgspec.Struct, frozen=True, tag="info"):
    """What the engine is, sent once when it is ready.

    `fills_processors`: its steps take every processor that it may use.
    """

    device: str
    dtype: str
    max_model_len: int
    max_lora_rank: int
    max_num_seqs: int
    max_num_batched_tokens: int
    vocab_size: int
    base_weight_bytes: int
    block_tokens: int
    fills_processors: bool = False
