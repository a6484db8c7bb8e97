"""The tokens of a step as the model reads them: one block of memory, one copy to the device."""

from collections.abc import Sequence as Series
from dataclasses import dataclass

import numpy as np
import torch

from inference_service.engine.device_copy import to_device
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
        begins = np.cumsum([0] + [-(-size // _ALIGNED) * _ALIGNED for size in sizes]).tolist()
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
        host = _pack(inputs, self.shape)
        self._buffer.copy_(to_device(host, self._buffer.device), non_blocking=True)


def _pack(inputs: Series[StepInput], shape: StepShape) -> torch.Tensor:
    sections = shape.sections
    array = np.zeros(sections[-1][1], np.int32)
    token_ids, positions, sequence, sampled_rows, tables = (
        array[begin:end] for begin, end in sections
    )
    tables = tables.reshape(shape.num_sequences, shape.table_width)
    positions[:] = -1
    begin = num_sampled = 0
    for row, step in enumerate(inputs):
        end = begin + step.num_tokens
        token_ids[begin:end] = step.token_ids
        positions[begin:end] = np.arange(step.start, step.start + step.num_tokens)
        sequence[begin:end] = row
        if step.samples:
            sampled_rows[num_sampled] = end - 1
            num_sampled += 1
        tables[row, : len(step.table)] = step.table
        begin = end
    return torch.from_numpy(array)
