"""The other kernels for real, each against its twin in float32."""

from typing import Any

import pytest
import torch

from kernels.gpu.ops import TritonKernels
from kernels.layouts import HeadNorm, KvLayout
from kernels.reference import ReferenceKernels
from tests.gpu.compare import assert_near, moved
from tests.kernels.compare import make_batch, step_of

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")
NUM_PAGES, LAYER = 96, 1
LENGTHS = [(0, 1), (0, 200), (33, 1), (-1, 3), (300, 40), (-1, 1), (511, 1)]


@pytest.fixture(params=[torch.float32, torch.float16, torch.bfloat16], ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    chosen: torch.dtype = request.param
    return chosen


class Twins:
    """Calls a kernel on the GPU in a dtype, and its twin on the same values."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype, self._device = dtype, device

    def call(self, name: str, *arguments: Any) -> tuple[Any, Any, list[Any], list[Any]]:
        """Both results, and the arguments as both left them. float32 tables stay so."""
        rounded = [self._rounded(argument) for argument in arguments]
        ours = [moved(argument, self._device) for argument in rounded]
        twins = [moved(argument, CPU, torch.float32) for argument in rounded]
        twins = [t.clone() if isinstance(t, torch.Tensor) else t for t in twins]
        got = getattr(TritonKernels(), name)(*ours)
        want = getattr(ReferenceKernels(), name)(*twins)
        return got, want, ours, twins

    def _rounded(self, argument: Any) -> Any:
        return argument if isinstance(argument, _Table) else moved(argument, CPU, self._dtype)


class _Table(torch.Tensor):
    """Float32 whatever the model computes in, such as the rotary angles."""


@pytest.fixture
def twins(dtype: torch.dtype, device: torch.device) -> Twins:
    torch.manual_seed(0)
    return Twins(dtype, device)


@pytest.mark.parametrize("width", [64, 250, 4096])
@pytest.mark.parametrize("has_residual", [False, True])
def test_norms(twins: Twins, width: int, has_residual: bool) -> None:
    x, weight, bias = torch.randn(33, width), torch.randn(width), torch.randn(width)
    residual = torch.randn(33, width) if has_residual else None
    for name, weights in (("rms_norm", [weight]), ("layer_norm", [weight, bias])):
        got, want, ours, theirs = twins.call(name, x, residual, *weights, 1e-5)
        assert_near(got, want)
        if has_residual:
            assert_near(ours[1], theirs[1])


def test_activations(twins: Twins) -> None:
    x = torch.randn(33, 2 * 5632) * 4
    for name in ("silu_mul", "gelu_tanh"):
        got, want, _, _ = twins.call(name, x)
        assert_near(got, want)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "block"),
    [(32, 8, 128, 16), (32, 4, 64, 16), (3, 1, 64, 32), (3, 3, 80, 16), (20, 1, 32, 16)],
)
@pytest.mark.parametrize("window", [0, 64])
def test_rope_cache_and_attention(
    twins: Twins,
    dtype: torch.dtype,
    device: torch.device,
    heads: int,
    kv_heads: int,
    head_dim: int,
    block: int,
    window: int,
) -> None:
    """Whole sequences are written first, then a step that mixes prefill, decode and padding."""
    layout = KvLayout(2, kv_heads, head_dim, block)
    batch = make_batch(layout, LENGTHS, NUM_PAGES * 2)
    lengths = [(before, now) if before < 0 else (0, before + now) for before, now in LENGTHS]
    everything = step_of(batch.block_tables, lengths)
    width = (heads + 2 * kv_heads) * head_dim
    qkv = torch.randn(everything.positions.shape[0], width)
    arena = torch.zeros(NUM_PAGES * 2, layout.page_elems)
    rotary = torch.randn(1024, head_dim).clamp(-1, 1).as_subclass(_Table)
    weights = torch.randn(2, head_dim)
    norm = HeadNorm(weights[0], weights[1], 1e-5)
    _, _, ours, theirs = twins.call(
        "rope_and_cache", qkv, rotary, arena, layout, LAYER, everything, norm
    )
    assert_near(ours[2], theirs[2])
    assert_near(ours[0][:, : heads * head_dim], theirs[0][:, : heads * head_dim])
    queries = torch.randn(batch.positions.shape[0], heads * head_dim)
    got, want, _, _ = twins.call("attention", queries, theirs[2], layout, LAYER, batch, window)
    assert_near(got, want)
    assert not got[moved(batch.positions, device) < 0].any()
