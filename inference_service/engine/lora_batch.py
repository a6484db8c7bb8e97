"""Groups the tokens of a step by adapter, in the form the kernels read."""

import torch

from inference_service.engine.adapter_cache import ResidentAdapter
from kernels.layouts import LoraPlan, make_tiles


class LoraPlanner:
    """Builds a step's plan; keeps it while steps look alike, as they do when all sequences decode.

    The tables of a set of adapters are kept as long as the set stays.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._spans: list[tuple[ResidentAdapter | None, int]] = []
        self._plan: LoraPlan | None = None
        self._adapters: tuple[ResidentAdapter, ...] = ()
        self._descriptors = torch.empty(0)
        self._chunk_offsets = torch.empty(0)

    def plan(self, spans: list[tuple[ResidentAdapter | None, int]]) -> LoraPlan | None:
        """`spans` are the step's runs of tokens, in order, with their adapter (None: base only).

        Returns None when no token has an adapter.
        """
        if spans != self._spans:
            self._spans, self._plan = spans, self._make_plan(spans)
        return self._plan

    def _make_plan(self, spans: list[tuple[ResidentAdapter | None, int]]) -> LoraPlan | None:
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
        if adapters == self._adapters:
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
