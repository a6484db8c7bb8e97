"""Train the base model: ``python -m examples.demo.train_base``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

import torch
import typer
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from examples.demo.corpus.mix import rendered_documents
from examples.demo.layout import BASE_DIR
from examples.demo.tokenizer import CONTEXT_LENGTH, train_tokenizer
from examples.demo.training import Batch, Schedule, train

SEED: Final = 20
_SEQUENCE_LENGTH: Final = 512
_BATCH_SIZE: Final = 8
_DOCUMENTS_AT_ONCE: Final = 256


def model_config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """Describe the model: a Llama with grouped-query attention and tied embeddings."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=CONTEXT_LENGTH,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def packed_batches(tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[Batch]:
    """Cut the endless stream of documents into full sequences; no token is padding."""
    documents = rendered_documents(seed)
    needed = _BATCH_SIZE * _SEQUENCE_LENGTH
    pending: list[int] = []
    while True:
        while len(pending) < needed:
            texts = [next(documents) for _ in range(_DOCUMENTS_AT_ONCE)]
            for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
                pending.extend(ids)
        block = torch.tensor(pending[:needed]).view(_BATCH_SIZE, _SEQUENCE_LENGTH)
        pending = pending[needed:]
        yield {"input_ids": block, "labels": block}


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Save everything a server needs, the weights rounded to bfloat16."""
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.to(torch.bfloat16).save_pretrained(BASE_DIR)
    tokenizer.save_pretrained(BASE_DIR)


def main(
    steps: Annotated[int, typer.Option(help="Optimiser steps of 4096 tokens each.")] = 2600,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-3,
    threads: Annotated[int, typer.Option(help="CPU threads to use.")] = 2,
) -> None:
    """Train tokenizer and base model, and save both."""
    torch.manual_seed(SEED)
    torch.set_num_threads(threads)
    tokenizer = train_tokenizer()
    model = LlamaForCausalLM(model_config(tokenizer))
    schedule = Schedule(steps, learning_rate, warmup_steps=100)
    train(model, packed_batches(tokenizer, SEED), schedule, "base")
    save(model, tokenizer)


if __name__ == "__main__":
    typer.run(main)
