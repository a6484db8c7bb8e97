"""Launches the LoRA kernels for a plan; see kernels/gpu/lora.py."""

from dataclasses import dataclass
from typing import Any

import torch

from kernels.gpu import lora
from kernels.layouts import ALIGNMENT, CHUNK_ROWS, COLUMN_BLOCK, TILE_ROWS, LoraPlan, LoraSite
from kernels.lora_work import LoraWork, make_work

_PROGRAMS_INTERPRETED = 3  # few, so that each of them loops
_SPLIT_INPUTS = 512  # inputs that are worth a program of their own


@dataclass(frozen=True)
class _Launch:
    """How one kind of rows is worked on: kernels, sizes, and programs that a processor holds."""

    shrink: Any
    expand: Any
    block_in: int
    max_splits: int
    num_warps: int
    programs_per_processor: int
    constants: dict[str, int]

    def num_splits(self, in_features: int) -> int:
        """Planes of partial sums: by the input's width alone, so a row's sum has one order."""
        wanted = max(1, in_features // _SPLIT_INPUTS)
        return min(self.max_splits, 1 << (wanted.bit_length() - 1))


_ROWS = _Launch(
    *(lora.shrink_rows, lora.expand_rows),
    block_in=256,
    max_splits=8,
    num_warps=4,
    programs_per_processor=4,
    constants={"CHUNK_ROWS": CHUNK_ROWS, "ALIGNED": ALIGNMENT},
)
_TILES = _Launch(
    *(lora.shrink_tiles, lora.expand_tiles),
    block_in=64,
    max_splits=2,
    num_warps=8,
    programs_per_processor=2,
    constants={**_ROWS.constants, "TILE_ROWS": TILE_ROWS},
)


class LoraOps:
    """Keeps the work of the plan it saw last, which the many calls of a step share."""

    def __init__(self) -> None:
        self._plan: LoraPlan | None = None
        self._work: tuple[LoraWork, ...] = ()
        self._num_processors: int | None = None

    def apply(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        arena: torch.Tensor,
        plan: LoraPlan,
        site: LoraSite,
        layer: int,
    ) -> None:
        """ReferenceKernels.lora_apply: a shrink and an expand for each kind of rows."""
        for work in self._work_of(plan, x.device):
            self._launch(y, x, arena, plan, work, site, layer)

    def _work_of(self, plan: LoraPlan, device: torch.device) -> tuple[LoraWork, ...]:
        if plan.work is not None:
            return plan.work
        if self._plan is not plan:
            self._plan, self._work = plan, make_work(plan, device)
        return self._work

    def _launch(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        arena: torch.Tensor,
        plan: LoraPlan,
        work: LoraWork,
        site: LoraSite,
        layer: int,
    ) -> None:
        launch, num_slices = _ROWS if work.single_tokens else _TILES, len(site.slices)
        part_stride = -(-work.max_rank // CHUNK_ROWS) * CHUNK_ROWS
        planes = torch.empty(
            (launch.num_splits(site.in_features), work.max_rows, num_slices, part_stride),
            dtype=torch.float32,
            device=x.device,
        )
        scratch = (planes, planes.stride(0), part_stride)
        _, _, num_modules, _ = plan.descriptors.shape
        tables = (
            *(plan.descriptors, plan.descriptors.stride(0), layer * num_modules * 2),
            *(plan.chunk_offsets, site.table),
        )
        rows = (arena, work.rows, work.tiles)
        num_programs = self._num_programs(x.device, launch)
        options = {
            **launch.constants,
            "SPLITS": planes.shape[0],
            "NUM_PROGRAMS": num_programs,
            "num_warps": launch.num_warps,
        }
        launch.shrink[(num_programs,)](
            *(*scratch, x, x.stride(0), *rows, work.chunks, work.counts, *tables),
            *(num_slices, site.in_features),
            BLOCK_IN=launch.block_in,
            **options,
        )
        launch.expand[(num_programs,)](
            *(y, y.stride(0), *scratch, *rows, work.counts, *tables, site.blocks),
            *(num_slices, site.blocks.shape[0]),
            BLOCK_OUT=COLUMN_BLOCK,
            COLUMN_MULTIPLE=site.column_multiple,
            **options,
        )

    def _num_programs(self, device: torch.device, launch: _Launch) -> int:
        """Programs to launch, whatever the work: what the device has room for."""
        if device.type != "cuda":
            return _PROGRAMS_INTERPRETED
        if self._num_processors is None:
            properties = torch.cuda.get_device_properties(device)
            self._num_processors = properties.multi_processor_count
        return launch.programs_per_processor * self._num_processors
