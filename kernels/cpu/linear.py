"""The base model's linear layers on a CPU, packed once for the kernels that multiply with them."""

import ctypes
from collections.abc import Sequence

import torch

from kernels.cpu import huge_pages

_PANEL = 32  # columns of the result that gemm.c works on together


class _Linear(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("weights", "bias")),
        *((name, ctypes.c_int64) for name in ("in_features", "out_features")),
    ]


class PackedLinear:
    """kernels.linear.PlainLinear on gemm.c, which alone keeps W: [out / 32, in / step, 32, step],
    padded with zeros; a step is one float32 or two bfloat16.

    A row of y is the same to the bit whatever other rows x has.
    """

    def __init__(
        self, library: ctypes.CDLL, weights: Sequence[torch.Tensor], bias: torch.Tensor | None
    ) -> None:
        """W is the `weights` [out, in], one below the other."""
        self._gemm = library.gemm
        self._out_features = sum(len(weight) for weight in weights)
        self._in_features = weights[0].shape[1]
        self._bias = None if bias is None else bias.contiguous()
        self._packed = self._pack(library, weights)
        self._packed_width = self._packed.shape[1] * self._packed.shape[3]
        self._linear = _Linear(
            *(self._packed.data_ptr(), None if self._bias is None else self._bias.data_ptr()),
            *(self._in_features, self._out_features),
        )
        self.address = ctypes.addressof(self._linear)

    def _pack(self, library: ctypes.CDLL, weights: Sequence[torch.Tensor]) -> torch.Tensor:
        dtype, step = weights[0].dtype, 4 // weights[0].itemsize
        shape = (-(-self._out_features // _PANEL), -(-self._in_features // step), _PANEL, step)
        packed = huge_pages.empty(shape, dtype)
        first = 0
        for weight in weights:
            assert weight.dtype == dtype
            assert weight.shape[1] == self._in_features
            assert weight.stride(1) == 1
            library.gemm_pack(
                packed.data_ptr(), weight.data_ptr(), weight.stride(0), *weight.shape, first
            )
            first += len(weight)
        return packed

    @property
    def num_bytes(self) -> int:
        return self._packed.nbytes + (0 if self._bias is None else self._bias.nbytes)

    @property
    def weight(self) -> torch.Tensor:
        """W as it was: a copy."""
        by_row = self._packed.transpose(1, 2).flatten(0, 1).flatten(1)
        return by_row[: self._out_features, : self._in_features].contiguous()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        x, y, packed_x = self.room_for(x)
        self._gemm(
            *(self.address, y.data_ptr(), packed_x.data_ptr(), x.data_ptr()),
            *(x.stride(0), x.shape[0]),
        )
        return y

    def room_for(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """x with rows that have no gaps, room for y, and for x as gemm.c packs it."""
        num_rows, in_features = x.shape
        assert in_features == self._in_features
        assert x.dtype == self._packed.dtype
        x = x if x.stride(1) == 1 else x.contiguous()
        y = x.new_empty(num_rows, self._out_features)
        return x, y, x.new_empty(num_rows, self._packed_width)

    def rows(self, indices: torch.Tensor) -> torch.Tensor:
        indices = indices.long()
        panels = self._packed[indices // _PANEL, :, indices % _PANEL]
        return panels.flatten(1)[:, : self._in_features].contiguous()


class OneDnnLinear:
    """kernels.linear.PlainLinear on oneDNN's own form of W, through torch's operators for it.

    Where the processor multiplies tiles of bfloat16 (AMX), oneDNN uses them and gemm.c does not.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        self._bias = bias
        self._weight_bytes = weight.nbytes

    @property
    def num_bytes(self) -> int:
        return self._weight_bytes + (0 if self._bias is None else self._bias.nbytes)

    @property
    def weight(self) -> torch.Tensor:
        """W as it was: a copy."""
        return self._packed.to_dense()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")
