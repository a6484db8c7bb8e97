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
from kernels.gpu import attention, elementwise, kv_cache, lora

ELEMENT, INDEX = "*{element}", "*i32"
ARENA = dict(arena=ELEMENT)
PAGES = dict(ARENA, page_elems="i32", layer_offset="i32", positions=INDEX, sequence=INDEX,
             block_tables=INDEX, table_stride="i32", num_kv_heads="i32")
ROPE = dict(PAGES, qkv=ELEMENT, qkv_stride="i32", rotary="*fp32", query_norm=ELEMENT,
            key_norm=ELEMENT, epsilon="fp32", num_q_heads="i32")
HEAD = dict(HEAD_DIM=64, HALF_BLOCK=32, BLOCK_TOKENS=16)
ATTENTION = dict(PAGES, out=ELEMENT, queries=ELEMENT, query_stride="i32", num_tokens="i32",
                 window="i32", scale="fp32")
KEYS = dict(HEAD_DIM=64, DIM_BLOCK=64, BLOCK_TOKENS=16, LANES=32)
PLAN = dict(ARENA, planes="*fp32", split_stride="i32", part_stride="i32", rows=INDEX, tiles=INDEX,
            counts=INDEX, descriptors=INDEX, adapter_stride="i32", layer_offset="i32",
            chunk_offsets="*i64", slices=INDEX, num_slices="i32")
SHRINK = dict(PLAN, x=ELEMENT, x_stride="i32", chunks=INDEX, in_features="i32")
EXPAND = dict(PLAN, y=ELEMENT, y_stride="i32", blocks=INDEX, num_blocks="i32")
ROWS = dict(CHUNK_ROWS=16, ALIGNED=32, SPLITS=8, NUM_PROGRAMS=528)
TILES = dict(ROWS, SPLITS=2, TILE_ROWS=32)
KERNELS = [
    (elementwise.rms_norm, dict(out=ELEMENT, x=ELEMENT, residual=ELEMENT, weight=ELEMENT,
                                width="i32", epsilon="fp32"), dict(HAS_RESIDUAL=True, BLOCK=2048)),
    (elementwise.silu_mul, dict(out=ELEMENT, gate_up=ELEMENT, width="i32"), dict(BLOCK=1024)),
    (lora.shrink_rows, SHRINK, dict(ROWS, BLOCK_IN=256)),
    (lora.expand_rows, EXPAND, dict(ROWS, COLUMN_MULTIPLE=16, BLOCK_OUT=256)),
    (lora.shrink_tiles, SHRINK, dict(TILES, BLOCK_IN=64)),
    (lora.expand_tiles, EXPAND, dict(TILES, COLUMN_MULTIPLE=16, BLOCK_OUT=256)),
    (elementwise.layer_norm, dict(out=ELEMENT, x=ELEMENT, residual=ELEMENT, weight=ELEMENT,
                                  bias=ELEMENT, width="i32", epsilon="fp32"),
     dict(HAS_RESIDUAL=True, BLOCK=4096)),
    (elementwise.gelu_tanh, dict(out=ELEMENT, x=ELEMENT, width="i32"), dict(BLOCK=1024)),
    (kv_cache.rope_and_cache, ROPE, dict(HEAD, NORMS=False, ROTARY_DIM=64, REST_BLOCK=0)),
    (kv_cache.rope_and_cache, ROPE, dict(HEAD, NORMS=True, ROTARY_DIM=32, REST_BLOCK=32)),
    (attention.attention, ATTENTION, dict(KEYS, GROUP=4, TILE_TOKENS=1, ROWS=16)),
    (attention.attention, ATTENTION, dict(KEYS, GROUP=7, TILE_TOKENS=8, ROWS=64)),
]
for kernel, types, constants in KERNELS:
    names = kernel.arg_names
    signature = {{name: "constexpr" if name in constants else types[name] for name in names}}
    values = {{(names.index(name),): value for name, value in constants.items()}}
    source = ASTSource(fn=kernel, signature=signature, constexprs=values)
    assert compile(source, target=GPUTarget("cuda", {capability}, 32)).asm["cubin"]
print("compiled", len(KERNELS))
"""


@pytest.mark.parametrize(("element", "capability"), [("fp16", 80), ("bf16", 90), ("fp32", 90)])
def test_kernels_compile_for_a_gpu(element: str, capability: int) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    script = SCRIPT.format(element=element, capability=capability)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert result.stdout == "compiled 12\n", result.stderr
