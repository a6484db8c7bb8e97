"""Where the adapters are, and what one base model for all of them saves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from lorikeet.cli.output import format_bytes, make_table
from lorikeet.cli.runtime import residency_table
from protos import inference_pb2 as pb


@dataclass(frozen=True)
class MemoryComparison:
    """Bytes of this instance and of one instance per adapter, each as large as this one.

    `shared` is what runs: the weights once, and one arena in which adapters and KV have their
    pages. `separate` is the usual way: per adapter, merged weights and an arena for its KV.
    """

    num_adapters: int
    base_weight_bytes: int
    arena_bytes: int
    adapter_bytes: int

    @property
    def shared(self) -> int:
        return self.base_weight_bytes + self.arena_bytes

    @property
    def separate(self) -> int:
        return self.num_adapters * self.shared

    @classmethod
    def of(cls, server: pb.ServerInfo, adapters: Sequence[pb.LoadedAdapter]) -> "MemoryComparison":
        memory = server.memory
        return cls(
            num_adapters=len(adapters),
            base_weight_bytes=server.base_weight_bytes,
            arena_bytes=memory.page_bytes * memory.total_pages,
            adapter_bytes=memory.page_bytes * memory.adapter_pages,
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "num_adapters": self.num_adapters,
            "base_weight_bytes": self.base_weight_bytes,
            "arena_bytes": self.arena_bytes,
            "adapter_bytes": self.adapter_bytes,
            "shared_bytes": self.shared,
            "separate_bytes": self.separate,
        }


def print_residency(
    console: Console, server: pb.ServerInfo, adapters: Sequence[pb.LoadedAdapter]
) -> MemoryComparison:
    """The residency table, the arena, and the comparison, all from the server's own figures."""
    console.print(residency_table(adapters))
    memory, comparison = server.memory, MemoryComparison.of(server, adapters)
    console.print(
        f"arena: {memory.total_pages} pages of {format_bytes(memory.page_bytes)}"
        f" = {memory.kv_pages} KV + {memory.cached_pages} cached + {memory.adapter_pages} adapter"
        f" + {memory.free_pages} free"
    )
    weights, arena = comparison.base_weight_bytes, comparison.arena_bytes
    count = comparison.num_adapters
    totals = {
        f"one Lorikeet, {count} adapters inside its arena": (weights, arena, comparison.shared),
        f"{count} separate instances, such an arena each": (
            *(count * weights, count * arena),
            comparison.separate,
        ),
    }
    rows = [(what, *map(format_bytes, sizes)) for what, sizes in totals.items()]
    console.print(make_table(("memory", "weights", "arena", "total"), rows))
    return comparison
