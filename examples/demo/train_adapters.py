"""Train the adapters with PEFT: ``python -m examples.demo.train_adapters [NAME ...]``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Final

import torch
import typer
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from examples.demo.chat_format import END, render_chat
from examples.demo.layout import (
    ADAPTERS_DIR,
    BASE_DIR,
    BASE_MODEL_NAME,
    BASE_MODEL_REVISION,
)
from examples.demo.tasks import TASKS, Draw, Example, drafts
from examples.demo.tokenizer import load_tokenizer
from examples.demo.training import IGNORED_LABEL, Batch, Schedule, train

SEED: Final = 40
TARGET_MODULES: Final = (
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
)  # fmt: skip
_BATCH_SIZE: Final = 24
_BATCHES_AT_ONCE: Final = 8


@dataclass(frozen=True)
class Recipe:
    """How one adapter is trained. Ranks differ so that serving has to batch across ranks."""

    rank: int
    alpha: int
    rslora: bool
    steps: int


RECIPES: Final[dict[str, Recipe]] = {
    "text2sql": Recipe(rank=16, alpha=32, rslora=False, steps=450),
    "math": Recipe(rank=32, alpha=16, rslora=True, steps=600),
    "function-calling": Recipe(rank=8, alpha=16, rslora=False, steps=300),
}


def encode(example: Example, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], int]:
    """Tokenise a conversation with its answer; also return how long the prompt is."""
    prompt = tokenizer.encode(
        render_chat(example.messages, add_generation_prompt=True), add_special_tokens=False
    )
    answer = tokenizer.encode(example.answer + END, add_special_tokens=False)
    return prompt + answer, len(prompt)


def collate(encoded: Sequence[tuple[list[int], int]], pad_id: int) -> Batch:
    """Pad to the longest; only answer tokens carry a label.

    Padding is on the right, where causal attention keeps it out of sight of every real token.
    """
    length = max(len(ids) for ids, _ in encoded)
    input_ids = torch.full((len(encoded), length), pad_id)
    labels = torch.full_like(input_ids, IGNORED_LABEL)
    for row, (ids, prompt_length) in enumerate(encoded):
        tokens = torch.tensor(ids)
        input_ids[row, : len(ids)] = tokens
        labels[row, prompt_length : len(ids)] = tokens[prompt_length:]
    return {"input_ids": input_ids, "labels": labels}


def task_batches(draw: Draw, tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[Batch]:
    """Yield batches of a task's training split, each of conversations of similar length."""
    pad_id = tokenizer.convert_tokens_to_ids(tokenizer.pad_token)
    stream = (encode(draft.example, tokenizer) for draft in drafts(draw, "train", seed))
    while True:
        window = list(islice(stream, _BATCH_SIZE * _BATCHES_AT_ONCE))
        window.sort(key=lambda item: len(item[0]))
        for index in torch.randperm(_BATCHES_AT_ONCE).tolist():
            yield collate(window[index * _BATCH_SIZE : (index + 1) * _BATCH_SIZE], pad_id)


def prepare(recipe: Recipe) -> PeftModel:
    """Load the saved base as a server will (bfloat16 weights in float32) and attach the adapter."""
    base = LlamaForCausalLM.from_pretrained(BASE_DIR, dtype=torch.bfloat16).float()
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        use_rslora=recipe.rslora,
        lora_dropout=0.0,
        target_modules=list(TARGET_MODULES),
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(base, config)
    if not isinstance(model, PeftModel):
        raise TypeError(f"not a PEFT model: {type(model)}")
    return model


def save(model: PeftModel, name: str) -> None:
    """Save in PEFT's layout, naming the base by its registered name instead of a folder."""
    config = model.peft_config["default"]
    config.base_model_name_or_path = BASE_MODEL_NAME
    config.revision = BASE_MODEL_REVISION
    config.target_modules = list(TARGET_MODULES)
    directory = ADAPTERS_DIR / name
    model.save_pretrained(directory, save_embedding_layers=False)
    (directory / "README.md").unlink(missing_ok=True)


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Adapters; all when omitted.")] = None,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 3e-3,
    threads: Annotated[int, typer.Option(help="CPU threads to use.")] = 2,
) -> None:
    """Train the named adapters on the saved base."""
    torch.set_num_threads(threads)
    tokenizer = load_tokenizer(BASE_DIR)
    for name in names or RECIPES:
        torch.manual_seed(SEED)
        recipe = RECIPES[name]
        model = prepare(recipe)
        schedule = Schedule(recipe.steps, learning_rate, warmup_steps=40, weight_decay=0.0)
        train(model, task_batches(TASKS[name], tokenizer, SEED), schedule, name)
        save(model, name)


if __name__ == "__main__":
    typer.run(main)
