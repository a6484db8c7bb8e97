"""A servable checkpoint: random Llama weights with a tokenizer and a chat template."""

from pathlib import Path

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from tests import checkpoints

MAX_MODEL_LEN = 8192  # long enough that a stream still runs when its server is killed
_VOCAB_SIZE = 320
_CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}</s>"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
_CORPUS = ["the quick brown fox jumps over the lazy dog", "pack my box with five dozen jugs"]


def write_checkpoint(directory: Path) -> Path:
    """A directory that `lorikeet serve --model` takes."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=_VOCAB_SIZE,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = _CHAT_TEMPLATE
    fast.save_pretrained(directory)
    return checkpoints.write_checkpoint(
        directory, vocab_size=fast.vocab_size, max_position_embeddings=MAX_MODEL_LEN
    )
