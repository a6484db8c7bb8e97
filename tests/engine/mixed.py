"""Mixed batches by hand, and what transformers and PEFT say about each request alone."""

from pathlib import Path

import torch

from inference_service.engine.adapter_cache import AdapterCache, ResidentAdapter
from inference_service.engine.eviction import EvictionQueue, RebuildCosts
from inference_service.engine.model_runner import ModelRunner
from inference_service.engine.page_copier import HostPageCopier
from inference_service.engine.page_image import pack
from inference_service.engine.page_pool import PagePool, PageUse
from inference_service.engine.peft_adapter import read_adapter
from inference_service.engine.step_input import StepInput
from tests.checkpoints import load_reference
from tests.engine.driver import wait_for

BASE = "base"


def prompt_for(index: int, length: int, vocab_size: int = 97) -> list[int]:
    generator = torch.Generator().manual_seed(index)
    return torch.randint(2, vocab_size, (length,), generator=generator).tolist()


def make_cache(pool: PagePool, arena: torch.Tensor) -> AdapterCache:
    return AdapterCache(pool, HostPageCopier(arena), EvictionQueue(), RebuildCosts())


def make_resident(
    runner: ModelRunner, pool: PagePool, paths: dict[str, Path]
) -> dict[str, ResidentAdapter | None]:
    cache = make_cache(pool, runner.arena)
    spec, layout = runner.spec, runner.layout
    resident: dict[str, ResidentAdapter | None] = {BASE: None}
    for name, path in paths.items():
        matrices = read_adapter(path, spec, 512)
        image = pack(matrices, spec.num_layers, len(spec.modules), layout.page_elems, runner.dtype)
        resident[name] = adapter = cache.insert(name, image)
        wait_for(adapter.copy)  # a large one is copied on a thread
    return resident


def mixed_logits(
    runner: ModelRunner,
    adapters: dict[str, ResidentAdapter | None],
    pool: PagePool,
    growth: int = 9,
) -> tuple[dict[str, list[int]], dict[str, torch.Tensor]]:
    """Prompts, each longer by `growth`, and next-token logits of one prefill that mixes all."""
    prompts = {name: prompt_for(i, 5 + growth * i) for i, name in enumerate(adapters)}
    inputs = [
        StepInput(
            tokens,
            0,
            pool.allocate(runner.layout.num_blocks(len(tokens)), PageUse.KV),
            adapters[name],
            True,
        )
        for name, tokens in prompts.items()
    ]
    logits = runner.run(inputs).logits
    return prompts, dict(zip(prompts, logits, strict=True))


@torch.inference_mode()
def reference_logits(model_path: Path, adapter: Path | None, tokens: list[int]) -> torch.Tensor:
    model = load_reference(model_path, adapter)
    logits: torch.Tensor = model(torch.tensor([tokens])).logits[0, -1]
    return logits


@torch.inference_mode()
def reference_greedy(
    model_path: Path, adapter: Path | None, prompt: list[int], num_tokens: int
) -> list[int]:
    model = load_reference(model_path, adapter)
    tokens = list(prompt)
    for _ in range(num_tokens):
        tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[len(prompt) :]
