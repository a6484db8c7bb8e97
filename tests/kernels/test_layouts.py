"""The layouts that kernels and engine share."""

import pytest

from kernels.layouts import CHUNK_ROWS, make_kv_layout


@pytest.mark.parametrize("widest", [16, 704, 14336])
def test_a_page_holds_a_chunk_of_the_widest_module(widest: int) -> None:
    layout = make_kv_layout(num_layers=4, num_kv_heads=2, head_dim=64, widest_row=widest)
    assert layout.block_tokens % 16 == 0
    assert layout.page_elems >= CHUNK_ROWS * widest
