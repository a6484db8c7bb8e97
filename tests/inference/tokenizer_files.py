"""Small tokenizers of the two kinds that matter, trained here, as checkpoint directories."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

CORPUS = [
    "The quick brown fox jumps over the lazy dog. " * 4,
    "Grüße aus Köln, 你好世界, здравствуй мир, 🦜🌈 and emoji 👩‍👩‍👧.",
    "def parrot(x):\n    return x * 2  # lorikeet\n",
    "user assistant system tool say hello to the world again and again",
]
SPECIAL = ["<unk>", "<s>", "</s>", "<|user|>", "<|end|>"]
CHAT_TEMPLATE = """{{ bos_token }}{% for tool in tools or [] %}{{ tool | tojson }}
{% endfor %}{% for message in messages %}
    {%- if message['role'] not in ['system', 'user', 'assistant', 'tool'] %}
        {{- raise_exception('unknown role') }}
    {%- endif %}
    {%- if loop.first and message['role'] == 'assistant' %}
        {{- raise_exception('the assistant cannot begin') }}
    {%- endif %}
<|user|>{{ message['role'] }}
{% generation %}{{ message['content'] | trim }}{% endgeneration %}
    {%- for call in message.tool_calls or [] %}
        {{- call.function | tojson(indent=2) }}
    {%- endfor %}
<|end|>
{% endfor %}
{% if add_generation_prompt %}<|user|>assistant
{% endif %}"""
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 112,
    "vocab_size": 600,
    "max_position_embeddings": 256,
    "eos_token_id": 2,
    "bos_token_id": 1,
}


@cache
def byte_level_json() -> str:
    """As GPT-2, Llama 3 and Qwen: every byte is a token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return str(tokenizer.to_str())


@cache
def byte_fallback_json() -> str:
    """As Llama 2, Mistral and Gemma: words, and bytes for what has no token."""
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=[*SPECIAL, *byte_tokens], show_progress=False
    )
    tokenizer.train_from_iterator([CORPUS[0], CORPUS[3]], trainer)
    content = json.loads(tokenizer.to_str())
    for token in content["added_tokens"]:
        token["special"] = token["content"] in SPECIAL
    content["added_tokens"] = [token for token in content["added_tokens"] if token["special"]]
    return json.dumps(content)


def write_model(directory: Path, tokenizer_json: str = "", **tokenizer_config: Any) -> Path:
    """A checkpoint directory without weights: all that the front end reads."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(CONFIG))
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 4]}))
    (directory / "tokenizer.json").write_text(tokenizer_json or byte_level_json())
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "chat_template": CHAT_TEMPLATE,
        **tokenizer_config,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return directory
