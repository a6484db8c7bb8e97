"""The chunk tables of the adapters in use, kept on the device from step to step."""

from collections import OrderedDict
from collections.abc import Collection

import torch

from inference_service.engine.adapter_cache import ResidentAdapter
from inference_service.engine.device_copy import copy_into
from kernels.layouts import CHUNK_ROWS


class LoraTables:
    """`descriptors` and `chunk_offsets` of LoraPlan, where adapter i of a plan is the slot i here.

    They stay where they are for good, so a CUDA graph may hold on to them. An adapter's tables are
    written when it is first in a step, and again only if its slot went to another one meanwhile.
    A slot is a few KB that say where chunks are; the chunks themselves have no slots.
    """

    def __init__(
        self,
        num_slots: int,
        num_layers: int,
        num_modules: int,
        max_rank: int,
        device: torch.device,
    ) -> None:
        self.device, self.max_rank = device, max_rank
        self._slot_chunks = num_layers * num_modules * 2 * -(-max_rank // CHUNK_ROWS)
        # Not touched until used, as the arena.
        self.descriptors = torch.empty(
            num_slots, num_layers, num_modules, 2, dtype=torch.int32, device=device
        )
        self.chunk_offsets = torch.empty(
            num_slots * self._slot_chunks, dtype=torch.int64, device=device
        )
        self._free = list(range(num_slots))
        self._slots: OrderedDict[ResidentAdapter, int] = OrderedDict()

    def place(self, adapters: Collection[ResidentAdapter]) -> dict[ResidentAdapter, int]:
        """The slot of each of a step's adapters, of which there are at most `num_slots`."""
        for adapter in adapters:
            if adapter in self._slots:
                self._slots.move_to_end(adapter)
        for adapter in adapters:
            if adapter not in self._slots:
                self._slots[adapter] = slot = self._take_slot(adapters)
                self._write(adapter, slot)
        return {adapter: self._slots[adapter] for adapter in adapters}

    def _take_slot(self, spared: Collection[ResidentAdapter]) -> int:
        """A free slot, or that of the adapter longest out of use, which is none of `spared`."""
        if self._free:
            return self._free.pop(0)
        adapter, slot = self._slots.popitem(last=False)
        assert adapter not in spared, "more adapters in a step than there may be sequences"
        return slot

    def _write(self, adapter: ResidentAdapter, slot: int) -> None:
        assert adapter.max_rank <= self.max_rank
        begin = slot * self._slot_chunks
        descriptors = adapter.descriptors.clone()
        descriptors[..., 1] += begin
        offsets = adapter.chunk_offsets
        copy_into(self.descriptors[slot], descriptors)
        copy_into(self.chunk_offsets[begin : begin + offsets.shape[0]], offsets)
