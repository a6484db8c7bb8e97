"""What adapters add to a step of TinyLlama's shape: all sites of all layers, each in own memory."""

from collections.abc import Iterator
from collections.abc import Sequence as Series

import torch

from benchmarks.synthetic import TINYLLAMA
from inference_service.engine.adapter_cache import AdapterCache, ResidentAdapter
from inference_service.engine.eviction import EvictionQueue, RebuildCosts
from inference_service.engine.lora_batch import LoraPlanner
from inference_service.engine.lora_tables import LoraTables
from inference_service.engine.page_copier import make_page_copier
from inference_service.engine.page_image import PageImage, pack
from inference_service.engine.page_pool import PagePool
from inference_service.engine.peft_adapter import LoraMatrices
from inference_service.models.families import make_spec
from inference_service.models.spec import DecoderSpec
from kernels.cpu import huge_pages
from kernels.cpu.ops import CpuKernels
from kernels.layouts import LoraPlan, LoraSite, LoraSlice, make_kv_layout

_CPU = torch.device("cpu")

Matrices = list[tuple[torch.Tensor, torch.Tensor]]  # A [rank, in] and B [rank, out] by module


class LoraStep:
    """`num_tokens` tokens of each of as many adapters as there are ranks, all modules adapted.

    All layers have the same numbers, `matrices` by adapter, each in memory of its own.
    """

    def __init__(self, ranks: Series[int], num_tokens: int, kernels: CpuKernels) -> None:
        spec, dtype = make_spec(TINYLLAMA), kernels.dtype
        self._kernels, self._num_layers = kernels, spec.num_layers
        self.sites = _sites(spec)
        self.matrices = [_random_matrices(spec, rank, dtype) for rank in ranks]
        images = [_pack(spec, matrices, dtype) for matrices in self.matrices]
        self.num_bytes = spec.num_layers * sum(
            matrix.nbytes for matrices in self.matrices for pair in matrices for matrix in pair
        )
        num_pages = sum(image.num_pages for image in images)
        self._arena = huge_pages.empty((num_pages, images[0].pages.shape[1]), dtype)
        self._plan = _plan(spec, _load(self._arena, images), num_tokens)
        num_rows = len(ranks) * num_tokens
        self.rows = {name: _random_rows(site, num_rows, dtype) for name, site in self.sites.items()}

    def calls(self) -> Iterator[tuple[str, int]]:
        """The site and layer of each call of a step, in order."""
        return ((name, layer) for layer in range(self._num_layers) for name in self.sites)

    def apply(self, name: str, layer: int) -> None:
        x, y = self.rows[name]
        self._kernels.lora_apply(y, x, self._arena, self._plan, self.sites[name], layer)


def _sites(spec: DecoderSpec) -> dict[str, LoraSite]:
    sites = spec.sites
    groups = (sites.attention_in, sites.attention_out, sites.mlp_in, sites.mlp_out)
    return {
        name: _site(spec, modules)
        for name, modules in zip(("qkv", "o", "gate_up", "down"), groups, strict=True)
    }


def _site(spec: DecoderSpec, modules: tuple[str, ...]) -> LoraSite:
    widths = [spec.module_shape(module)[1] for module in modules]
    slices = tuple(
        LoraSlice(spec.modules.index(module), sum(widths[:index]), widths[index])
        for index, module in enumerate(modules)
    )
    return LoraSite.make(spec.module_shape(modules[0])[0], slices, _CPU)


def _random_matrices(spec: DecoderSpec, rank: int, dtype: torch.dtype) -> Matrices:
    shapes = [spec.module_shape(module) for module in spec.modules]
    return [
        (
            (torch.randn(rank, in_features) / in_features**0.5).to(dtype),
            (torch.randn(rank, out_features) / rank**0.5).to(dtype),
        )
        for in_features, out_features in shapes
    ]


def _pack(spec: DecoderSpec, matrices: Matrices, dtype: torch.dtype) -> PageImage:
    parts = [
        LoraMatrices(layer, module, *pair)
        for layer in range(spec.num_layers)
        for module, pair in enumerate(matrices)
    ]
    layout = make_kv_layout(spec.num_layers, spec.num_kv_heads, spec.head_dim, spec.widest_row)
    return pack(parts, spec.num_layers, len(matrices), layout.page_elems, dtype)


def _load(arena: torch.Tensor, images: Series[PageImage]) -> list[ResidentAdapter]:
    copier = make_page_copier(arena)
    cache = AdapterCache(PagePool(arena.shape[0]), copier, EvictionQueue(), RebuildCosts())
    adapters = [cache.insert(f"{index:04}", image) for index, image in enumerate(images)]
    copier.close()
    return adapters


def _plan(spec: DecoderSpec, adapters: Series[ResidentAdapter], num_tokens: int) -> LoraPlan:
    highest = max(adapter.max_rank for adapter in adapters)
    tables = LoraTables(len(adapters), spec.num_layers, len(spec.modules), highest, _CPU)
    plan = LoraPlanner(tables).plan([(adapter, num_tokens) for adapter in adapters])
    assert plan is not None
    return plan


def _random_rows(
    site: LoraSite, num_rows: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """x and y of a site."""
    last = site.slices[-1]
    x = torch.randn(num_rows, site.in_features).to(dtype)
    return x, torch.randn(num_rows, last.out_start + last.out_features).to(dtype)
