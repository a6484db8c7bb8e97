"""Train the byte-level BPE tokenizer and save it in the Hugging Face layout."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from examples.demo.chat_format import BEGIN, CHAT_TEMPLATE, END, PAD, SPECIAL_TOKENS
from examples.demo.corpus.copying import KEYS, WORD_LISTS
from examples.demo.corpus.mix import rendered_documents
from examples.demo.tasks.schemas import TABLES

VOCABULARY_SIZE: Final = 2048
CONTEXT_LENGTH: Final = 1024
_SAMPLE_DOCUMENTS: Final = 12_000
_WORD_WEIGHT: Final = 40
# A word with the space before it, one digit, a run of signs, white space. There is no rule for
# English contractions: it would cut the quoted word in 'steel' after its first letter.
_PIECES: Final = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_MARKER: Final = re.compile("|".join(re.escape(token) for token in SPECIAL_TOKENS))


def _training_text() -> Iterator[str]:
    """Yield corpus text, and each shared word with and without the space before it.

    A word is copied from prose, where a space precedes it, into quotes, where none does. When both
    spellings are one token each, copying is one step.
    """
    tables = tuple(table.name for table in TABLES)
    for word in itertools.chain(*WORD_LISTS, KEYS, tables):
        yield f"{word}\n {word}\n" * _WORD_WEIGHT
    for document in itertools.islice(rendered_documents(seed=0), _SAMPLE_DOCUMENTS):
        yield _MARKER.sub("\n", document)


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Train the tokenizer: bytes at the bottom, so that any text round-trips; digits one by one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_training_text(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[f"<|{role}|>" for role in ("system", "user", "assistant")],
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def load_tokenizer(directory: Path) -> PreTrainedTokenizerFast:
    """Load a saved tokenizer."""
    loaded = PreTrainedTokenizerFast.from_pretrained(directory)
    if not isinstance(loaded, PreTrainedTokenizerFast):
        raise TypeError(f"not a fast tokenizer: {directory}")
    return loaded
