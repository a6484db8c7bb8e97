"""Owns the model and the arena's tensor; turns a schedule into one forward pass."""

from collections.abc import Sequence as Series
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from inference_service.engine.adapter_cache import ResidentAdapter
from inference_service.engine.arena_size import arena_bytes
from inference_service.engine.config import EngineConfig
from inference_service.engine.largest_step import run_largest_step
from inference_service.engine.lora_batch import LoraPlanner
from inference_service.models.decoder import Decoder
from inference_service.models.families import read_spec
from inference_service.models.loader import load_weights
from inference_service.models.spec import UnsupportedModelError
from kernels.layouts import TokenBatch, make_kv_layout
from kernels.select import select_kernels

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class StepInput:
    """One sequence's part of a step: tokens [start, start + num_tokens) and where its KV lies."""

    __slots__ = ("adapter", "num_tokens", "samples", "start", "table", "token_ids")

    def __init__(
        self,
        token_ids: list[int],
        start: int,
        table: list[int],
        adapter: ResidentAdapter | None,
        samples: bool,
    ) -> None:
        self.token_ids = token_ids
        self.num_tokens = len(token_ids)
        self.start = start
        self.table = table
        self.adapter = adapter
        self.samples = samples


@dataclass(frozen=True)
class StepResult:
    """`logits` [S, vocab] float32: one row per input that samples, in their order. `hidden`
    [T, hidden size]: every token's, until the next step, for `ModelRunner.logits`."""

    logits: torch.Tensor
    hidden: torch.Tensor


class ModelRunner:
    """Raises UnsupportedModelError when the checkpoint is not one it can compute exactly, and
    EngineConfigError for options that cannot be met."""

    def __init__(self, config: EngineConfig) -> None:
        model_path = Path(config.model_path)
        self.spec = read_spec(model_path)
        self.device = _device(config.device)
        self.dtype = _dtype(config.dtype, self.spec.dtype, self.device)
        spec = self.spec
        self.layout = make_kv_layout(
            spec.num_layers, spec.num_kv_heads, spec.head_dim, spec.widest_row
        )
        self.page_bytes = self.layout.page_elems * self.dtype.itemsize
        weights = load_weights(model_path, spec, self.device, self.dtype)
        self.base_weight_bytes = weights.num_bytes
        kernels = select_kernels(self.device, self.dtype)
        self.description = f"{self.device} ({kernels.name} kernels)"

        def make_decoder(max_len: int) -> Decoder:
            return Decoder(spec, weights, kernels, self.layout, max_len)

        def try_largest_step() -> None:
            decoder = make_decoder(config.max_model_len or spec.max_positions)
            run_largest_step(decoder, spec, self.layout, config, weights.norm)

        num_pages = arena_bytes(config, self.device, try_largest_step) // self.page_bytes
        num_tokens = num_pages * self.layout.block_tokens
        self.max_model_len = _max_model_len(config.max_model_len, spec.max_positions, num_tokens)
        self._decoder = make_decoder(self.max_model_len)
        self._planner = LoraPlanner(self.device)
        # Not touched until used: pages of the operating system come as ours are filled.
        self.arena = torch.empty(
            num_pages, self.layout.page_elems, dtype=self.dtype, device=self.device
        )

    def run(self, inputs: Series[StepInput]) -> StepResult:
        """One forward pass; writes the inputs' KV to the arena."""
        token_ids = np.concatenate([step.token_ids for step in inputs]).astype(np.int32)
        lengths = [step.num_tokens for step in inputs]
        last_rows = np.cumsum(lengths) - 1
        sampled = last_rows[[step.samples for step in inputs]]
        plan = self._planner.plan([(step.adapter, step.num_tokens) for step in inputs])
        hidden = self._decoder.forward(
            self._on_device(token_ids), self._token_batch(inputs, lengths), self.arena, plan
        )
        return StepResult(self.logits(hidden[self._on_device(sampled)]), hidden)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [R, vocab] float32 of rows of a step's hidden states."""
        return self._decoder.logits(hidden)

    def _token_batch(self, inputs: Series[StepInput], lengths: list[int]) -> TokenBatch:
        positions = [np.arange(step.start, step.start + step.num_tokens) for step in inputs]
        tables = np.zeros((len(inputs), max(len(step.table) for step in inputs)), np.int32)
        for row, step in enumerate(inputs):
            tables[row, : len(step.table)] = step.table
        return TokenBatch(
            positions=self._on_device(np.concatenate(positions).astype(np.int32)),
            sequence=self._on_device(np.repeat(np.arange(len(inputs)), lengths).astype(np.int32)),
            block_tables=self._on_device(tables),
        )

    def _on_device(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _dtype(name: str, checkpoint: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        name = "float32" if device.type == "cpu" and checkpoint == "float16" else checkpoint
    if name not in _DTYPES:
        raise UnsupportedModelError(f"config.json: dtype {name!r} is not supported")
    return _DTYPES[name]


def _max_model_len(asked: int, max_positions: int, num_arena_tokens: int) -> int:
    """What was asked for, or as much as the model and the arena allow."""
    if asked > max_positions:
        raise UnsupportedModelError(
            f"max_model_len {asked} is beyond the model's max_position_embeddings {max_positions}"
        )
    max_model_len = asked or min(max_positions, num_arena_tokens)
    if not 0 < max_model_len <= num_arena_tokens:
        raise UnsupportedModelError(
            f"the KV of max_model_len {max_model_len} tokens does not fit in the arena, which has "
            f"room for {num_arena_tokens}: give the engine more memory"
        )
    return max_model_len
