"""The same on real weights: the demo's base and adapters, beside random adapters of odd ranks."""

from pathlib import Path

import pytest
import torch

from examples.demo.layout import ADAPTER_NAMES, ADAPTERS_DIR, BASE_DIR
from examples.demo.prompts import SHOWCASE
from examples.demo.tokenizer import load_tokenizer
from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.engine.model_runner import ModelRunner
from inference_service.engine.page_pool import PagePool
from inference_service.engine.request import Load, SamplingOptions, Submit
from tests.checkpoints import write_adapter
from tests.engine.conftest import RANKS
from tests.engine.driver import run_to_end
from tests.engine.mixed import BASE, make_resident, mixed_logits, reference_greedy, reference_logits

CONFIG = EngineConfig(str(BASE_DIR), dtype="float32", memory_bytes=64 << 20)


@pytest.fixture(scope="module")
def demo_adapter_paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("demo-adapters")
    random = {name: write_adapter(root / name, BASE_DIR, rank) for name, rank in RANKS.items()}
    return {name: ADAPTERS_DIR / name for name in ADAPTER_NAMES} | random


def test_logits_of_a_mixed_batch_equal_peft(demo_adapter_paths: dict[str, Path]) -> None:
    runner = ModelRunner(CONFIG)
    pool = PagePool(runner.arena.shape[0])
    adapters = make_resident(runner, pool, demo_adapter_paths)
    prompts, logits = mixed_logits(runner, adapters, pool)
    for name, tokens in prompts.items():
        want = reference_logits(BASE_DIR, demo_adapter_paths.get(name), tokens)
        torch.testing.assert_close(logits[name], want, rtol=1e-4, atol=1e-4, msg=name)


def test_greedy_answers_mixed_equal_solo_equal_peft(demo_adapter_paths: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(BASE_DIR)
    names = [BASE, *demo_adapter_paths]
    sampling = SamplingOptions(temperature=0.0, max_tokens=24)
    submits = []
    for number, name in enumerate(names):
        messages = SHOWCASE[name if name in SHOWCASE else ADAPTER_NAMES[number % 3]]
        prompt = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False
        )
        submits.append(Submit(number, prompt, sampling, "" if name == BASE else name))
    engine = Engine(CONFIG)
    for number, (name, path) in enumerate(demo_adapter_paths.items()):
        engine.handle(Load(number, name, str(path)))
    mixed = run_to_end(engine, submits)
    for submit, name in zip(submits, names, strict=True):
        got = mixed[submit.request_id]
        assert got == run_to_end(engine, [submit])[submit.request_id], name
        adapter = demo_adapter_paths.get(name)
        want = reference_greedy(BASE_DIR, adapter, submit.prompt_token_ids, sampling.max_tokens)
        assert got.token_ids == want, name
