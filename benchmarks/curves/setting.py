"""What all curves share: the model, adapters of any rank, engines, rounds, the floor."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from benchmarks.curves.floor import Floor, StepWork
from benchmarks.synthetic import TINYLLAMA, write_adapter, write_llama
from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.models.families import read_spec

_MAX_POSITIONS = 16384  # far more than TinyLlama's, for the curves of context
_MEMORY_BYTES = 2 << 30


@dataclass(frozen=True)
class Setting:
    """Of a run: `layers` of TinyLlama's shape in bfloat16, `rounds` besides one of warm-up."""

    root: Path
    layers: int
    rounds: int
    floor: Floor

    @cached_property
    def model(self) -> Path:
        config = {
            **TINYLLAMA,
            "num_hidden_layers": self.layers,
            "max_position_embeddings": _MAX_POSITIONS,
        }
        path = self.root / "model"
        return path if path.exists() else write_llama(path, config)

    @cached_property
    def work(self) -> StepWork:
        return StepWork(read_spec(self.model))

    def adapter(self, rank: int, seed: int = 0, modules: tuple[str, ...] = ()) -> Path:
        """Of all seven modules without `modules`; written once."""
        path = self.root / f"r{rank}-{seed}-{'-'.join(modules)}"
        if not path.exists():
            write_adapter(path, self.work.spec, rank, seed, torch.bfloat16, modules)
        return path

    def engine(
        self,
        max_model_len: int = 512,
        max_num_seqs: int = 64,
        memory_bytes: int = _MEMORY_BYTES,
        host_memory_bytes: int = 2 * _MEMORY_BYTES,
    ) -> Engine:
        return Engine(
            EngineConfig(
                str(self.model),
                memory_bytes=memory_bytes,
                host_memory_bytes=host_memory_bytes,
                max_model_len=max_model_len,
                max_num_seqs=max_num_seqs,
            )
        )
