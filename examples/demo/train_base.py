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

from examples.demo.corpus.mix import finishing_documents, rendered_documents
from examples.demo.layout import BASE_DIR
from examples.demo.tokenizer import CONTEXT_LENGTH, load_tokenizer, train_tokenizer
from examples.demo.training import Batch, Schedule, train

SEED: Final = 20
FINISHING_SEED: Final = 21
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


def packed_batches(tokenizer: PreTrainedTokenizerFast, documents: Iterator[str]) -> Iterator[Batch]:
    """Cut an endless stream of documents into full sequences; no token is padding."""
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


def train_from_scratch(steps: int) -> None:
    """Train tokenizer and model on the main mixture, and save both."""
    tokenizer = train_tokenizer()
    model = LlamaForCausalLM(model_config(tokenizer))
    batches = packed_batches(tokenizer, rendered_documents(SEED))
    train(model, batches, Schedule(steps, learning_rate=2e-3, warmup_steps=100), "base")
    save(model, tokenizer)


def finish(steps: int) -> None:
    """Go on from the saved model with the documents that the main mixture leaves out."""
    tokenizer = load_tokenizer(BASE_DIR)
    model = LlamaForCausalLM.from_pretrained(BASE_DIR, dtype=torch.bfloat16).float()
    batches = packed_batches(tokenizer, finishing_documents(FINISHING_SEED))
    train(model, batches, Schedule(steps, learning_rate=1e-3, warmup_steps=20), "finishing")
    save(model, tokenizer)


def main(
    steps: Annotated[int, typer.Option(help="Steps of 4096 tokens on the main mixture.")] = 2600,
    finishing_steps: Annotated[int, typer.Option(help="Steps of the finishing phase.")] = 200,
    threads: Annotated[int, typer.Option(help="CPU threads to use.")] = 2,
) -> None:
    """Train tokenizer and base model, and save both; with 0 steps, only finish the saved one."""
    torch.manual_seed(SEED)
    torch.set_num_threads(threads)
    if steps:
        train_from_scratch(steps)
    finish(finishing_steps)


if __name__ == "__main__":
    typer.run(main)
