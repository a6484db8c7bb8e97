"""Groups the tokens of a step by adapter, in the form the kernels read."""

from collections.abc import Sequence as Series

import torch

from inference_service.engine.adapter_cache import ResidentAdapter
from kernels.layouts import LoraPlan, make_tiles


class LoraPlanner:
    """Builds a step's plan. The tables of a set of adapters are kept while the set stays."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._adapters: tuple[ResidentAdapter, ...] = ()
        self._descriptors = torch.empty(0)
        self._chunk_offsets = torch.empty(0)

    def plan(self, spans: Series[tuple[ResidentAdapter | None, int]]) -> LoraPlan | None:
        """`spans` are the step's runs of tokens, in order, with their adapter (None: base only).

        Returns None when no token has an adapter.
        """
        rows: dict[str, list[int]] = {}
        adapters: dict[str, ResidentAdapter] = {}
        start = 0
        for adapter, num_tokens in spans:
            if adapter is not None:
                adapters[adapter.digest] = adapter
                rows.setdefault(adapter.digest, []).extend(range(start, start + num_tokens))
            start += num_tokens
        if not adapters:
            return None
        digests = sorted(rows)
        self._select(tuple(adapters[digest] for digest in digests))
        return LoraPlan(
            rows=torch.tensor(
                [row for d in digests for row in rows[d]], dtype=torch.int32, device=self._device
            ),
            tiles=make_tiles([len(rows[digest]) for digest in digests]).to(self._device),
            descriptors=self._descriptors,
            chunk_offsets=self._chunk_offsets,
            max_rank=max(adapter.max_rank for adapter in self._adapters),
        )

    def _select(self, adapters: tuple[ResidentAdapter, ...]) -> None:
        """Concatenates the tables of `adapters`, moving each one's chunks behind those before."""
        if len(adapters) == len(self._adapters) and all(
            new is old for new, old in zip(adapters, self._adapters, strict=True)
        ):
            return
        descriptors = torch.stack([adapter.descriptors for adapter in adapters])
        first = 0
        for index, adapter in enumerate(adapters):
            descriptors[index, :, :, 1] += first
            first += adapter.chunk_offsets.shape[0]
        self._adapters = adapters
        self._descriptors = descriptors.to(self._device)
        offsets = torch.cat([adapter.chunk_offsets for adapter in adapters])
        self._chunk_offsets = offsets.to(self._device)
