"""The base model's linear layers on the C kernels, whose results do not depend on the batch."""

import ctypes

import torch

_PANEL = 32  # columns of the result that gemm.c works on together
_PARALLEL_WORK = 200_000  # multiply-adds, below which waking the other threads costs more


class PackedLinear:
    """y = x W^T + bias for one W [out, in], kept only as gemm.c reads it.

    packed [out / 32, in / step, 32, step], padded with zeros; a step is one float32 or two bfloat16.
    A row of y is the same to the bit whatever other rows x has. bias [out] or None.
    """

    def __init__(
        self, library: ctypes.CDLL, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> None:
        self._library = library
        self.out_features, self.in_features = weight.shape
        self._bias = None if bias is None else bias.contiguous()
        self._packed = _pack(weight, 4 // weight.itemsize)

    @property
    def num_bytes(self) -> int:
        return self._packed.nbytes + (0 if self._bias is None else self._bias.nbytes)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """x [T, in] with unit inner stride; returns [T, out]."""
        num_rows = x.shape[0]
        y = x.new_empty(num_rows, self.out_features)
        self._library.gemm(
            *(self._packed.data_ptr(), None if self._bias is None else self._bias.data_ptr()),
            *(self.in_features, self.out_features, y.data_ptr(), x.data_ptr(), x.stride(0)),
            *(num_rows, num_rows * self._packed.numel() >= _PARALLEL_WORK),
        )
        return y

    def rows(self, indices: torch.Tensor) -> torch.Tensor:
        """W[indices], [T, in]: an embedding that shares its weight with the last layer."""
        panels = self._packed[indices // _PANEL, :, indices % _PANEL]
        return panels.flatten(1)[:, : self.in_features].contiguous()

    @property
    def weight(self) -> torch.Tensor:
        """W as it was, [out, in]: a copy."""
        by_row = self._packed.transpose(1, 2).flatten(0, 1).flatten(1)
        return by_row[: self.out_features, : self.in_features].contiguous()


def _pack(weight: torch.Tensor, step: int) -> torch.Tensor:
    out_features, in_features = weight.shape
    padding = (0, -in_features % step, 0, -out_features % _PANEL)
    padded = torch.nn.functional.pad(weight, padding) if any(padding) else weight
    panels = padded.unflatten(1, (-1, step)).unflatten(0, (-1, _PANEL))
    return panels.transpose(1, 2).contiguous()
