"""Every Triton kernel compiles to machine code for a GPU, where there is none to run it on."""

import os
import subprocess
import sys

import pytest

# In a process of its own: this one has Triton in interpreter mode.
SCRIPT = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from kernels.gpu import attention, elementwise, lora

ELEMENT, INDEX = "*{element}", "*i32"
ARENA = dict(arena=ELEMENT)
PAGES = dict(ARENA, page_elems="i32", layer_offset="i32", positions=INDEX, sequence=INDEX,
             block_tables=INDEX, table_stride="i32", num_kv_heads="i32")
PLAN = dict(ARENA, rows=INDEX, tiles=INDEX, descriptors=INDEX, adapter_stride="i32",
            chunk_offsets="*i64", slices=INDEX, num_rows="i32", num_slices="i32", max_rank="i32")
TILE = dict(TILE_ROWS=32, CHUNK_ROWS=16, SPLITS=4)
KERNELS = [
    (elementwise.rms_norm, dict(out=ELEMENT, x=ELEMENT, residual=ELEMENT, weight=ELEMENT,
                                width="i32", epsilon="fp32"), dict(HAS_RESIDUAL=True, BLOCK=2048)),
    (elementwise.silu_mul, dict(out=ELEMENT, gate_up=ELEMENT, width="i32"), dict(BLOCK=1024)),
    (lora.shrink, dict(PLAN, shrunk="*fp32", x=ELEMENT, x_stride="i32", in_features="i32"),
     dict(TILE, BLOCK_IN=128)),
    (lora.expand, dict(PLAN, shrunk="*fp32", y=ELEMENT, y_stride="i32"), dict(TILE, BLOCK_OUT=128)),
    (attention.rope_and_cache, dict(PAGES, qkv=ELEMENT, qkv_stride="i32", rotary="*fp32",
                                    num_q_heads="i32"),
     dict(HEAD_DIM=64, HALF_BLOCK=32, BLOCK_TOKENS=16)),
    (attention.attention, dict(PAGES, out=ELEMENT, queries=ELEMENT, query_stride="i32",
                               scale="fp32"),
     dict(GROUP=4, GROUP_BLOCK=16, HEAD_DIM=64, DIM_BLOCK=64, BLOCK_TOKENS=16, LANES=16)),
]
for kernel, types, constants in KERNELS:
    names = kernel.arg_names
    signature = {{name: "constexpr" if name in constants else types[name] for name in names}}
    values = {{(names.index(name),): value for name, value in constants.items()}}
    source = ASTSource(fn=kernel, signature=signature, constexprs=values)
    assert compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]
print("compiled", len(KERNELS))
"""


@pytest.mark.parametrize("element", ["bf16", "fp32"])
def test_kernels_compile_for_a_gpu(element: str) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(element=element)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert result.stdout == "compiled 6\n", result.stderr
