"""What a decoder is, read off its Hugging Face config once and used everywhere after."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal


class UnsupportedModelError(ValueError):
    """A checkpoint that would be computed wrongly, refused by the field or tensor that says so."""


@dataclass(frozen=True)
class RopeSpec:
    """Rotary embedding of the first `rotary_dim` elements of a head.

    `kind` is "default", "linear", "llama3" or "longrope"; the rest as in the config. Cosines and
    sines are multiplied by `scale`.
    """

    theta: float
    rotary_dim: int
    kind: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192
    short_factors: tuple[float, ...] = ()
    scale: float = 1.0


@dataclass(frozen=True)
class Sites:
    """The base GEMMs of a layer, each as the checkpoint's linear modules that are fused in it.

    Modules are named without their parents; the order is that of a GEMM's output columns.
    """

    attention_in: tuple[str, ...]
    attention_out: tuple[str]
    mlp_in: tuple[str, ...]
    mlp_out: tuple[str]


@dataclass(frozen=True)
class DecoderSpec:
    """The shapes and constants of a pre-norm decoder with rotary embedding.

    A layer is attention, then an MLP, each with a norm before it and a residual around it; or, if
    `parallel`, both read one norm and are added to the residual together. `activation` stands
    between the MLP's GEMMs: "silu_mul" gates one half of the first one's output with the other.
    `windows` says per layer how many tokens a token meets (0: all before it); empty: all, always.
    `max_positions` is the longest context that is computed exactly.
    """

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    max_positions: int
    norm_epsilon: float
    rope: RopeSpec
    sites: Sites
    dtype: str
    tie_word_embeddings: bool = False
    norm: Literal["rms", "layer"] = "rms"
    final_norm: str = "norm"
    activation: Literal["silu_mul", "gelu_tanh"] = "silu_mul"
    parallel: bool = False
    head_norms: bool = False
    windows: tuple[int, ...] = ()
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    lm_head_bias: bool = False

    @property
    def query_size(self) -> int:
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        return self.num_kv_heads * self.head_dim

    @property
    def modules(self) -> tuple[str, ...]:
        """The linear modules of a layer that an adapter may target, in the order of every table."""
        sites = self.sites
        return sites.attention_in + sites.attention_out + sites.mlp_in + sites.mlp_out

    def window(self, layer: int) -> int:
        return self.windows[layer] if self.windows else 0

    def module_shape(self, module: str) -> tuple[int, int]:
        """(in_features, out_features) of one of `modules`."""
        return self._shapes[module]

    def module_path(self, layer: int, module: str) -> str:
        """The Hugging Face name of one of `modules`, such as "model.layers.0.mlp.fc1"."""
        in_attention = module in self.sites.attention_in + self.sites.attention_out
        return f"model.layers.{layer}.{'self_attn' if in_attention else 'mlp'}.{module}"

    @property
    def widest_row(self) -> int:
        """The longest row of any adapter matrix."""
        return max(max(shape) for shape in self._shapes.values())

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, int]]:
        hidden, wide = self.hidden_size, self.intermediate_size
        attention_in = _split(self.sites.attention_in, self.query_size, self.kv_size, self.kv_size)
        gated = (wide, wide) if self.activation == "silu_mul" else (wide,)
        mlp_in = _split(self.sites.mlp_in, *gated)
        return {
            **{module: (hidden, width) for module, width in attention_in.items()},
            **dict.fromkeys(self.sites.attention_out, (self.query_size, hidden)),
            **{module: (hidden, width) for module, width in mlp_in.items()},
            **dict.fromkeys(self.sites.mlp_out, (wide, hidden)),
        }


def _split(modules: tuple[str, ...], *widths: int) -> dict[str, int]:
    """Output columns per module: one of `widths` each, or all of them for one fused module."""
    if len(modules) == 1:
        widths = (sum(widths),)
    return dict(zip(modules, widths, strict=True))
