"""What a decoder is, read off its Hugging Face config once and used everywhere after."""

from dataclasses import dataclass
from functools import cached_property


class UnsupportedModelError(ValueError):
    """A checkpoint that would be computed wrongly, refused by the field or tensor that says so."""


@dataclass(frozen=True)
class RopeSpec:
    """Rotary embedding. `kind` is "default", "linear" or "llama3"; the rest as in the config."""

    theta: float
    kind: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192


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
    """The shapes and constants of a pre-norm decoder with rotary embedding and a gated MLP."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    max_positions: int
    rms_norm_epsilon: float
    rope: RopeSpec
    tie_word_embeddings: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    sites: Sites
    dtype: str

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
        mlp_in = _split(self.sites.mlp_in, wide, wide)
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
