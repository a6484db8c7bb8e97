"""The decoder: one forward pass over the flattened tokens of many requests and many adapters."""

import torch

from inference_service.models.loader import DecoderWeights, LayerWeights
from inference_service.models.rotary import rotary_table
from inference_service.models.spec import DecoderSpec
from kernels.layouts import KvLayout, LoraPlan, LoraSite, LoraSlice, TokenBatch
from kernels.select import Kernels, Linear


class Decoder:
    """Owns the weights; the KV and the adapters live in the caller's arena."""

    def __init__(
        self,
        spec: DecoderSpec,
        weights: DecoderWeights,
        kernels: Kernels,
        layout: KvLayout,
        max_len: int,
    ) -> None:
        self._spec, self._weights, self._kernels, self._layout = spec, weights, kernels, layout
        device = weights.norm.device
        self._rotary = rotary_table(spec.rope, spec.head_dim, max_len).to(device)
        self._qkv = _site(spec, device, spec.sites.attention_in)
        self._o = _site(spec, device, spec.sites.attention_out)
        self._gate_up = _site(spec, device, spec.sites.mlp_in)
        self._down = _site(spec, device, spec.sites.mlp_out)

    @torch.inference_mode()
    def forward(
        self,
        token_ids: torch.Tensor,
        batch: TokenBatch,
        arena: torch.Tensor,
        plan: LoraPlan | None,
    ) -> torch.Tensor:
        """The last hidden states [T, hidden size], normed: see `logits`.

        token_ids [T] int32. Writes the keys and values of all T tokens to their pages in `arena`.
        `plan` is None when every token is for the base model.
        """
        weights, epsilon = self._weights, self._spec.rms_norm_epsilon
        norm = self._kernels.rms_norm
        residual = weights.embedding.rows(token_ids)
        hidden = norm(residual, None, weights.layers[0].input_norm, epsilon)
        following = [layer.input_norm for layer in weights.layers[1:]] + [weights.norm]
        for index, layer in enumerate(weights.layers):
            attended = self._attention(index, layer, hidden, batch, arena, plan)
            hidden = norm(attended, residual, layer.mlp_norm, epsilon)
            transformed = self._mlp(index, layer, hidden, arena, plan)
            hidden = norm(transformed, residual, following[index], epsilon)
        return hidden

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [R, vocab] float32 of the hidden states [R, hidden size]."""
        return self._weights.lm_head(hidden).float()

    def _attention(
        self,
        index: int,
        layer: LayerWeights,
        hidden: torch.Tensor,
        batch: TokenBatch,
        arena: torch.Tensor,
        plan: LoraPlan | None,
    ) -> torch.Tensor:
        qkv = self._linear(layer.qkv, self._qkv, index, hidden, arena, plan)
        self._kernels.rope_and_cache(qkv, self._rotary, arena, self._layout, index, batch)
        queries = qkv[:, : self._spec.query_size]
        mixed = self._kernels.attention(queries, arena, self._layout, index, batch)
        return self._linear(layer.o, self._o, index, mixed, arena, plan)

    def _mlp(
        self,
        index: int,
        layer: LayerWeights,
        hidden: torch.Tensor,
        arena: torch.Tensor,
        plan: LoraPlan | None,
    ) -> torch.Tensor:
        gate_up = self._linear(layer.gate_up, self._gate_up, index, hidden, arena, plan)
        gated = self._kernels.silu_mul(gate_up)
        return self._linear(layer.down, self._down, index, gated, arena, plan)

    def _linear(
        self,
        module: Linear,
        site: LoraSite,
        index: int,
        x: torch.Tensor,
        arena: torch.Tensor,
        plan: LoraPlan | None,
    ) -> torch.Tensor:
        """One base GEMM for all rows, then each adapter's own part for its rows."""
        y = module(x)
        if plan is not None:
            self._kernels.lora_apply(y, x, arena, plan, site, index)
        return y


def _site(spec: DecoderSpec, device: torch.device, modules: tuple[str, ...]) -> LoraSite:
    slices, start = [], 0
    for module in modules:
        out_features = spec.module_shape(module)[1]
        slices.append(LoraSlice(spec.modules.index(module), start, out_features))
        start += out_features
    return LoraSite.make(spec.module_shape(modules[0])[0], tuple(slices), device)
