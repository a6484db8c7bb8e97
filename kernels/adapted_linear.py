"""A linear layer of the base model and what adapters add to it, where these are two calls."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch

from kernels.layouts import LoraPlan, LoraSite


class AdaptedLinear(ABC):
    """A part of kernels that have a `lora_apply`."""

    @abstractmethod
    def lora_apply(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        arena: torch.Tensor,
        plan: LoraPlan,
        site: LoraSite,
        layer: int,
    ) -> None:
        """See ReferenceKernels."""

    def adapted_linear(
        self,
        linear: Callable[[torch.Tensor], torch.Tensor],
        x: torch.Tensor,
        arena: torch.Tensor,
        plan: LoraPlan,
        site: LoraSite,
        layer: int,
    ) -> torch.Tensor:
        """linear(x), then `lora_apply` to it: [rows, out features]."""
        y = linear(x)
        self.lora_apply(y, x, arena, plan, site, layer)
        return y
