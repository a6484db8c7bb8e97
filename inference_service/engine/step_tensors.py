"""The tokens of a step as the model reads them: one block of memory, one copy to the device."""

from collections.abc import Sequence as Series
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch

from inference_service.engine.device_copy import copy_into, to_device
from inference_service.engine.step_input import StepInput
from kernels.layouts import TokenBatch

_ALIGNED = 4  # int32 elements: every tensor begins where 16-byte loads may


@dataclass(frozen=True)
class StepShape:
    """Rows and columns of a step's tensors; more than its inputs need where they are padded."""

    num_tokens: int
    num_sequences: int
    table_width: int

    @classmethod
    def of(cls, inputs: Series[StepInput]) -> "StepShape":
        """Just what the inputs need."""
        num_tokens = sum(step.num_tokens for step in inputs)
        return cls(num_tokens, len(inputs), max(len(step.table) for step in inputs))

    @property
    def sections(self) -> list[tuple[int, int]]:
        """(begin, end) of token_ids, positions, sequence, sampled_rows, block_tables."""
        tokens, sequences = self.num_tokens, self.num_sequences
        sizes = [tokens, tokens, tokens, sequences, sequences * self.table_width]
        begins = accumulate((-(-size // _ALIGNED) * _ALIGNED for size in sizes), initial=0)
        return [(begin, begin + size) for begin, size in zip(begins, sizes, strict=False)]


class StepTensors:
    """token_ids [T], sampled_rows [S] (the last row of each input that samples), `batch`; int32.

    Padding: rows beyond the inputs' tokens have position -1, which writes no KV and attends to
    nothing; tables beyond their pages are 0, and never read.
    """

    def __init__(self, buffer: torch.Tensor, shape: StepShape) -> None:
        self.shape = shape
        self._buffer = buffer
        token_ids, positions, sequence, sampled_rows, tables = (
            buffer[begin:end] for begin, end in shape.sections
        )
        self.token_ids = token_ids
        self.sampled_rows = sampled_rows
        self.batch = TokenBatch(
            positions, sequence, tables.view(shape.num_sequences, shape.table_width)
        )

    @classmethod
    def padding(cls, shape: StepShape, device: torch.device) -> "StepTensors":
        """Nothing but padding, to be filled step after step."""
        return cls(to_device(_pack([], shape), device), shape)

    @classmethod
    def of(cls, inputs: Series[StepInput], device: torch.device) -> "StepTensors":
        """Just the tokens of the inputs."""
        shape = StepShape.of(inputs)
        return cls(to_device(_pack(inputs, shape), device), shape)

    def fill(self, inputs: Series[StepInput]) -> None:
        """Takes over other inputs, padded, at the same addresses."""
        copy_into(self._buffer, _pack(inputs, self.shape))

    @torch.inference_mode()
    def put_sampled(self, sampled: torch.Tensor) -> None:
        """The tokens that `stand_in` stands for: of the rows of `sampled` [S] int64."""
        rows = (-1 - self.token_ids).clamp_(min=0)
        tokens = sampled.index_select(0, rows)
        self.token_ids.copy_(torch.where(self.token_ids < 0, tokens, self.token_ids))


def _pack(inputs: Series[StepInput], shape: StepShape) -> torch.Tensor:
    sections = shape.sections
    array = np.zeros(sections[-1][1], np.int32)
    token_ids, positions, sequence, sampled_rows, tables = (
        array[begin:end] for begin, end in sections
    )
    positions[:] = -1
    columns = _columns(inputs)
    for target, values in zip((token_ids, positions, sequence, sampled_rows), columns, strict=True):
        target[: len(values)] = values
    for row, step in enumerate(inputs):
        begin = row * shape.table_width
        tables[begin : begin + len(step.table)] = step.table
    return torch.from_numpy(array)


def _columns(inputs: Series[StepInput]) -> tuple[list[int], list[int], list[int], list[int]]:
    """token_ids, positions, sequence and sampled_rows."""
    token_ids: list[int] = []
    positions: list[int] = []
    sequence: list[int] = []
    sampled_rows: list[int] = []
    for row, step in enumerate(inputs):
        token_ids += step.token_ids
        positions += range(step.start, step.start + step.num_tokens)
        sequence += [row] * step.num_tokens
        if step.samples:
            sampled_rows.append(len(token_ids) - 1)
    return token_ids, positions, sequence, sampled_rows
