"""Owns the model and the arena's tensor; turns a schedule into one forward pass."""

from collections.abc import Sequence as Series
from functools import partial
from pathlib import Path

import torch

from inference_service.engine.arena_size import arena_bytes
from inference_service.engine.bucket_runner import BucketRunner, Prepare, StepResult
from inference_service.engine.config import EngineConfig, EngineConfigError
from inference_service.engine.cuda_graphs import CudaGraphs
from inference_service.engine.largest_step import run_largest_step
from inference_service.engine.lora_batch import LoraPlanner
from inference_service.engine.lora_tables import LoraTables
from inference_service.engine.step_input import StepInput
from inference_service.engine.step_tensors import StepTensors
from inference_service.models.decoder import Decoder
from inference_service.models.families import read_spec
from inference_service.models.loader import load_weights
from inference_service.models.spec import UnsupportedModelError
from kernels.cpu import huge_pages
from kernels.layouts import LoraPlan, make_kv_layout
from kernels.select import Kernels, select_kernels

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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
        self._kernels = kernels = select_kernels(self.device, self.dtype)
        weights = load_weights(model_path, spec, self.device, self.dtype, kernels)
        self.base_weight_bytes = weights.num_bytes
        uses_graphs = _uses_graphs(config.cuda_graphs, kernels)
        self.description = f"{self.device} ({kernels.name} kernels)"

        def make_decoder(max_len: int) -> Decoder:
            return Decoder(spec, weights, kernels, self.layout, max_len)

        def largest_step(decodes: bool) -> None:
            decoder = make_decoder(config.max_model_len or spec.max_positions)
            run_largest_step(decoder, spec, self.layout, config, weights.norm.weight, decodes)

        # Recorded steps, which decode, keep activations of their own.
        kinds = (False, True) if uses_graphs else (False,)
        steps = [partial(largest_step, decodes) for decodes in kinds]
        num_pages = arena_bytes(config, self.device, steps) // self.page_bytes
        num_tokens = num_pages * self.layout.block_tokens
        self.max_model_len = _max_model_len(config.max_model_len, spec.max_positions, num_tokens)
        self._decoder = make_decoder(self.max_model_len)
        self._tables = LoraTables(
            *(config.max_num_seqs, spec.num_layers, len(spec.modules), config.max_lora_rank),
            self.device,
        )
        self._planner = LoraPlanner(self._tables)
        # Not touched until used: pages of the operating system come as ours are filled.
        shape = (num_pages, self.layout.page_elems)
        if self.device.type == "cpu":
            self.arena = huge_pages.empty(shape, self.dtype)
        else:
            self.arena = torch.empty(shape, dtype=self.dtype, device=self.device)
        self._buckets: BucketRunner | None = None
        if uses_graphs:
            self.use_buckets(CudaGraphs(self.device).record, config.max_num_seqs)

    def use_buckets(self, prepare: Prepare, max_num_seqs: int) -> None:
        """From now on runs steps that only decode padded and prepared, for every size."""
        table_width = self.layout.num_blocks(self.max_model_len)
        self._buckets = BucketRunner(
            *(self._decode, prepare, self._tables, max_num_seqs, table_width),
            takes_adapters=self._kernels.name == "triton",
        )
        self._buckets.prepare_all()

    def run(self, inputs: Series[StepInput], sampled: torch.Tensor | None = None) -> StepResult:
        """One forward pass; writes the inputs' KV to the arena. The device is not waited for.

        `sampled` [S] int64, on the device: what negative tokens of the inputs stand for.
        """
        plan = self._planner.plan([(step.adapter, step.num_tokens) for step in inputs])
        if self._buckets is not None and self._buckets.can_run(inputs, plan):
            return self._buckets.run(inputs, plan, sampled)
        tensors = StepTensors.of(inputs, self.device)
        if sampled is not None:
            tensors.put_sampled(sampled)
        hidden = self._decoder.forward(tensors.token_ids, tensors.batch, self.arena, plan)
        sampled_rows = tensors.sampled_rows[: sum(step.samples for step in inputs)]
        return StepResult(self.logits(hidden.index_select(0, sampled_rows)), hidden)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [R, vocab] float32 of rows of a step's hidden states."""
        return self._decoder.logits(hidden)

    def _decode(self, tensors: StepTensors, plan: LoraPlan | None) -> StepResult:
        """A step of which every row samples."""
        hidden = self._decoder.forward(tensors.token_ids, tensors.batch, self.arena, plan)
        return StepResult(self.logits(hidden), hidden)


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


def _uses_graphs(option: str, kernels: Kernels) -> bool:
    """Only the Triton kernels on a GPU read nothing of a step on the host. Option: "auto" etc."""
    can = kernels.name == "triton" and torch.cuda.is_available()
    if option == "on" and not can:
        raise EngineConfigError(
            f'cuda_graphs is "on", but the {kernels.name} kernels cannot be recorded: they need '
            'Triton and a GPU; use "auto" or "off"'
        )
    return can and option != "off"


def _max_model_len(asked: int, max_positions: int, num_arena_tokens: int) -> int:
    """What was asked for, or as much as the model and the arena allow."""
    if asked > max_positions:
        raise UnsupportedModelError(
            f"max_model_len {asked} is beyond the {max_positions} positions of the model "
            "(max_position_embeddings, or with longrope original_max_position_embeddings)"
        )
    max_model_len = asked or min(max_positions, num_arena_tokens)
    if not 0 < max_model_len <= num_arena_tokens:
        raise UnsupportedModelError(
            f"the KV of max_model_len {max_model_len} tokens does not fit in the arena, which has "
            f"room for {num_arena_tokens}: give the engine more memory"
        )
    return max_model_len
