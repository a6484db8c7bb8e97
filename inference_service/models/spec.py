"""What a decoder is, read off its Hugging Face config once and used everywhere after."""

from dataclasses import dataclass

# The linear modules of a layer that an adapter may target, in the order every table uses.
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


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
    dtype: str

    @property
    def query_size(self) -> int:
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        return self.num_kv_heads * self.head_dim

    def module_shape(self, module: str) -> tuple[int, int]:
        """(in_features, out_features) of one of MODULES."""
        return {
            "q_proj": (self.hidden_size, self.query_size),
            "k_proj": (self.hidden_size, self.kv_size),
            "v_proj": (self.hidden_size, self.kv_size),
            "o_proj": (self.query_size, self.hidden_size),
            "gate_proj": (self.hidden_size, self.intermediate_size),
            "up_proj": (self.hidden_size, self.intermediate_size),
            "down_proj": (self.intermediate_size, self.hidden_size),
        }[module]

    @property
    def widest_row(self) -> int:
        """The longest row of any adapter matrix."""
        return max(max(self.module_shape(module)) for module in MODULES)
