"""The decoder: one forward pass over the flattened tokens of many requests and many adapters."""

import torch

from inference_service.models.rotary import rotary_table
from inference_service.models.spec import DecoderSpec
from inference_service.models.weights import DecoderWeights, LayerWeights, Norm
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
        device = weights.norm.weight.device
        self._rotary = rotary_table(spec.rope, max_len).to(device)
        self._activate = getattr(kernels, spec.activation)
        self._attention_in = _site(spec, device, spec.sites.attention_in)
        self._attention_out = _site(spec, device, spec.sites.attention_out)
        self._mlp_in = _site(spec, device, spec.sites.mlp_in)
        self._mlp_out = _site(spec, device, spec.sites.mlp_out)

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
        weights = self._weights
        residual = weights.embedding.rows(token_ids)
        hidden = self._norm(weights.layers[0].input_norm, residual, None)
        following = [layer.input_norm for layer in weights.layers[1:]] + [weights.norm]
        for index, layer in enumerate(weights.layers):
            added = self._attention(index, layer, hidden, batch, arena, plan)
            if layer.mlp_norm is None:
                added += self._mlp(index, layer, hidden, arena, plan)
            else:
                hidden = self._norm(layer.mlp_norm, added, residual)
                added = self._mlp(index, layer, hidden, arena, plan)
            hidden = self._norm(following[index], added, residual)
        return hidden

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [R, vocab] float32 of the hidden states [R, hidden size]."""
        return self._weights.lm_head(hidden).float()

    def _norm(self, norm: Norm, x: torch.Tensor, residual: torch.Tensor | None) -> torch.Tensor:
        """Adds x to the residual (if there is one), and norms the sum."""
        epsilon = self._spec.norm_epsilon
        if norm.bias is None:
            return self._kernels.rms_norm(x, residual, norm.weight, epsilon)
        return self._kernels.layer_norm(x, residual, norm.weight, norm.bias, epsilon)

    def _attention(
        self,
        index: int,
        layer: LayerWeights,
        hidden: torch.Tensor,
        batch: TokenBatch,
        arena: torch.Tensor,
        plan: LoraPlan | None,
    ) -> torch.Tensor:
        kernels, layout = self._kernels, self._layout
        qkv = self._linear(layer.attention_in, self._attention_in, index, hidden, arena, plan)
        kernels.rope_and_cache(qkv, self._rotary, arena, layout, index, batch, layer.head_norm)
        queries, window = qkv[:, : self._spec.query_size], self._spec.window(index)
        mixed = kernels.attention(queries, arena, layout, index, batch, window)
        return self._linear(layer.attention_out, self._attention_out, index, mixed, arena, plan)

    def _mlp(
        self,
        index: int,
        layer: LayerWeights,
        hidden: torch.Tensor,
        arena: torch.Tensor,
        plan: LoraPlan | None,
    ) -> torch.Tensor:
        inner = self._linear(layer.mlp_in, self._mlp_in, index, hidden, arena, plan)
        activated = self._activate(inner)
        return self._linear(layer.mlp_out, self._mlp_out, index, activated, arena, plan)

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
        if plan is None:
            return module(x)
        return self._kernels.adapted_linear(module, x, arena, plan, site, index)


def _site(spec: DecoderSpec, device: torch.device, modules: tuple[str, ...]) -> LoraSite:
    slices, start = [], 0
    for module in modules:
        out_features = spec.module_shape(module)[1]
        slices.append(LoraSlice(spec.modules.index(module), start, out_features))
        start += out_features
    return LoraSite.make(spec.module_shape(modules[0])[0], tuple(slices), device)
