"""An adapter packed into whole pages, once: loading it is then copying pages, and nothing else."""

from collections import defaultdict
from dataclasses import dataclass, replace

import torch

from inference_service.engine.load_pace import Rest, no_rest
from inference_service.engine.peft_adapter import LoraMatrices
from kernels.layouts import ALIGNMENT, CHUNK_ROWS


@dataclass(frozen=True)
class PageImage:
    """Immutable. Tables are as in kernels.layouts.LoraPlan, with offsets relative to the image.

    pages [num_pages, page_elems]; descriptors [num_layers, num_modules, 2] int32;
    chunk_offsets [num_chunks] int64: page index * page_elems + element in the page.
    """

    pages: torch.Tensor
    descriptors: torch.Tensor
    chunk_offsets: torch.Tensor
    max_rank: int

    @property
    def num_pages(self) -> int:
        return self.pages.shape[0]

    @property
    def num_bytes(self) -> int:
        return self.pages.nbytes

    def without_pages(self) -> "PageImage":
        """The tables alone, for an image whose pages are kept elsewhere."""
        return replace(self, pages=self.pages[:0].clone())

    def with_pages(self, pages: torch.Tensor) -> "PageImage":
        return replace(self, pages=pages)

    def place(self, page_ids: list[int]) -> torch.Tensor:
        """chunk_offsets once page i of the image lies at page page_ids[i] of the arena."""
        page_elems = self.pages.shape[1]
        where = torch.tensor(page_ids, dtype=torch.int64)
        page, element = self.chunk_offsets // page_elems, self.chunk_offsets % page_elems
        return where[page] * page_elems + element


def pack(
    matrices: list[LoraMatrices],
    num_layers: int,
    num_modules: int,
    page_elems: int,
    dtype: torch.dtype,
    rest: Rest = no_rest,
) -> PageImage:
    """Cuts every matrix into chunks of at most 16 rank rows; a chunk never straddles a page.

        page 0: | A q.0 | B q.0 | A k.0 | B k.0 | …   pad |
        page 1: | A gate.0 | B gate.0 |               pad |

    The last chunk of a matrix has only the rows it needs: no rank is padded.
    """
    descriptors = torch.zeros(num_layers, num_modules, 2, dtype=torch.int32)
    chunks: list[torch.Tensor] = []
    for part in matrices:
        descriptors[part.layer, part.module] = torch.tensor([part.rank, len(chunks)])
        chunks += [*torch.split(part.a, CHUNK_ROWS), *torch.split(part.b, CHUNK_ROWS)]
    offsets, num_pages = _first_fit([chunk.numel() for chunk in chunks], page_elems)
    pages = torch.zeros(num_pages, page_elems, dtype=dtype)
    flat = pages.view(-1)
    for chunk, offset in zip(chunks, offsets, strict=True):
        flat[offset : offset + chunk.numel()] = chunk.flatten().to(dtype)
        rest()
    max_rank = max(part.rank for part in matrices)
    return PageImage(pages, descriptors, torch.tensor(offsets, dtype=torch.int64), max_rank)


def _first_fit(sizes: list[int], page_elems: int) -> tuple[list[int], int]:
    """An offset for each chunk, and the number of pages; largest first, so that gaps get filled.

    Chunks of one size are placed together: each page is looked at once for each size.
    """
    by_size: defaultdict[int, list[int]] = defaultdict(list)
    for index, size in enumerate(sizes):
        by_size[-(-size // ALIGNMENT) * ALIGNMENT].append(index)
    offsets = [0] * len(sizes)
    used: list[int] = []
    for size in sorted(by_size, reverse=True):
        assert size <= page_elems, "make_kv_layout sizes a page for the widest chunk"
        page = 0
        for index in by_size[size]:
            while page < len(used) and used[page] + size > page_elems:
                page += 1
            if page == len(used):
                used.append(0)
            offsets[index] = page * page_elems + used[page]
            used[page] += size
    return offsets, len(used)
