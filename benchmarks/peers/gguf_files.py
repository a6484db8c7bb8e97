"""A Llama checkpoint and its PEFT adapters as llama.cpp reads them: base q8_0, adapters float16.

    python -m benchmarks.peers.gguf_files CHECKPOINT OUTPUT_DIRECTORY ADAPTER...

writes base.gguf and 0.gguf, 1.gguf … Needs numpy and gguf only.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

_MODULES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_TOP = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_ADAPTED = "base_model.model."


def write_base(checkpoint: Path, output: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    writer = gguf.GGUFWriter(output, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    for name, values in _tensors(checkpoint / "model.safetensors"):
        module = name.removesuffix(".weight")
        values = _rotated(module, values, config)
        if values.ndim == 1:
            writer.add_tensor(f"{_gguf_name(module)}.weight", values)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            quantized = gguf.quants.quantize(values, kind)
            writer.add_tensor(f"{_gguf_name(module)}.weight", quantized, raw_dtype=kind)
    _finish(writer)


def write_adapter(adapter: Path, checkpoint: Path, output: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    settings = json.loads((adapter / "adapter_config.json").read_text())
    writer = gguf.GGUFWriter(output, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(settings["lora_alpha"]))
    for name, values in _tensors(adapter / "adapter_model.safetensors"):
        module, _, side = name.removeprefix(_ADAPTED).removesuffix(".weight").rpartition(".")
        if side == "lora_B":
            values = _rotated(module, values, config)
        values = values.astype(np.float16)
        writer.add_tensor(f"{_gguf_name(module)}.weight.{side.lower()}", values)
    _finish(writer)


def _gguf_name(module: str) -> str:
    if module in _TOP:
        return _TOP[module]
    layer, _, part = module.removeprefix("model.layers.").partition(".")
    return f"blk.{layer}.{_MODULES[part]}"


def _rotated(module: str, values: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """llama.cpp rotates neighbouring pairs; Hugging Face's q and k rotate halves of a head."""
    num_heads = {
        "q_proj": config["num_attention_heads"],
        "k_proj": config["num_key_value_heads"],
    }.get(module.rpartition(".")[2])
    if num_heads is None:
        return values
    halves = values.reshape(num_heads, 2, values.shape[0] // num_heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def _tensors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """bfloat16 tensors of a safetensors file in float32, one at a time."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    data = np.memmap(path, np.uint8, mode="r", offset=8 + size)
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "BF16", f"{name} is {entry['dtype']}"
        first, last = entry["data_offsets"]
        upper_halves = data[first:last].view(np.uint16).astype(np.uint32)
        yield name, (upper_halves << 16).view(np.float32).reshape(entry["shape"])


def _finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(checkpoint: Path, directory: Path, *adapters: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    write_base(checkpoint, directory / "base.gguf")
    for index, adapter in enumerate(adapters):
        write_adapter(adapter, checkpoint, directory / f"{index}.gguf")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
