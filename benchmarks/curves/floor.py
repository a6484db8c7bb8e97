"""The least time that this machine can take for some work: by bytes read, and by arithmetic."""

import statistics
import time
from dataclasses import dataclass

import torch

from benchmarks.interleaved import read_bandwidth
from inference_service.models.spec import DecoderSpec
from kernels.cpu.linear import OneDnnLinear, PackedLinear
from kernels.cpu.ops import CpuKernels

_DTYPE = torch.bfloat16
_ROWS, _IN, _OUT = 512, 2048, 11264  # of the product that tells what arithmetic can do
_REPEATS = 7


@dataclass(frozen=True)
class Work:
    """One part of a step: what it reads of memory, and its additions and multiplications."""

    num_bytes: float
    num_flops: float

    def __add__(self, other: "Work") -> "Work":
        return Work(self.num_bytes + other.num_bytes, self.num_flops + other.num_flops)

    def __mul__(self, times: float) -> "Work":
        return Work(self.num_bytes * times, self.num_flops * times)


@dataclass(frozen=True)
class Rates:
    """What reading memory gives, and the larger of our and oneDNN's rate in a large product."""

    bytes_per_second: float
    flops_per_second: float

    def seconds(self, *parts: Work) -> float:
        """Parts follow each other; within one, reading and arithmetic overlap."""
        return sum(
            max(part.num_bytes / self.bytes_per_second, part.num_flops / self.flops_per_second)
            for part in parts
        )


class Floor:
    """The rates of this machine, which change from minute to minute where it is shared.

    They are observed in every round of a curve; medians count.
    """

    def __init__(self) -> None:
        self._observed: list[Rates] = []
        weight = torch.randn(_OUT, _IN).to(_DTYPE)
        ours = CpuKernels(_DTYPE).make_linear([weight], None)
        self._products = (ours, OneDnnLinear(weight, None))

    def observe(self) -> None:
        flops = max(map(_flops_per_second, self._products))
        self._observed.append(Rates(1e9 * read_bandwidth(), flops))

    def seconds(self, *parts: Work) -> float:
        return self._median().seconds(*parts)

    def _median(self) -> Rates:
        return Rates(
            statistics.median(rates.bytes_per_second for rates in self._observed),
            statistics.median(rates.flops_per_second for rates in self._observed),
        )

    def __str__(self) -> str:
        gigabytes = sorted(rates.bytes_per_second / 1e9 for rates in self._observed)
        gigaflops = self._median().flops_per_second / 1e9
        return f"{gigabytes[0]:.1f} to {gigabytes[-1]:.1f} GB/s, {gigaflops:.0f} GFLOP/s"


def _flops_per_second(linear: PackedLinear | OneDnnLinear) -> float:
    x = torch.randn(_ROWS, _IN).to(_DTYPE)
    seconds = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        linear(x)
        seconds.append(time.perf_counter() - began)
    return 2 * _ROWS * _IN * _OUT / min(seconds)


@dataclass(frozen=True)
class StepWork:
    """What the parts of a step of a decoder must at least do, in bfloat16."""

    spec: DecoderSpec

    def base(self, num_rows: float, num_sampled: float) -> tuple[Work, Work]:
        """The layers' GEMMs, and the language model's head for the rows that sample."""
        spec = self.spec
        shapes = [spec.module_shape(module) for module in spec.modules]
        weights = spec.num_layers * sum(a * b for a, b in shapes)
        return _product(weights, num_rows), _product(
            spec.vocab_size * spec.hidden_size, num_sampled
        )

    def adapters(
        self, rank: int, num_adapters: float, num_rows: float, modules: tuple[str, ...] = ()
    ) -> Work:
        """Distinct adapters, each read once, for rows that each have one of them."""
        shapes = [self.spec.module_shape(module) for module in modules or self.spec.modules]
        params = self.spec.num_layers * rank * sum(map(sum, shapes))
        return Work(params * num_adapters * _DTYPE.itemsize, 2 * params * num_rows)

    def decode_attention(self, num_sequences: float, context: float) -> Work:
        """Every sequence reads its own keys and values once."""
        spec = self.spec
        num_bytes = 2 * spec.kv_size * context * _DTYPE.itemsize
        flops = 4 * spec.query_size * context
        return Work(num_bytes, flops) * (num_sequences * spec.num_layers)

    def prefill_attention(self, num_tokens: int) -> Work:
        """A prompt's tokens each meet those before; keys and values stay in caches meanwhile."""
        spec = self.spec
        num_bytes = 2 * spec.kv_size * num_tokens * _DTYPE.itemsize
        flops = 2 * spec.query_size * num_tokens * (num_tokens + 1)
        return Work(num_bytes, flops) * spec.num_layers


def _product(num_weights: int, num_rows: float) -> Work:
    if not num_rows:
        return Work(0, 0)
    return Work(num_weights * _DTYPE.itemsize, 2 * num_weights * num_rows)
