"""The engine on a GPU: held to PEFT, graphs to plain calls, loads beside decodes, memory kept."""

from pathlib import Path

import pytest
import torch

from inference_service.engine.config import EngineConfig
from inference_service.engine.device_memory import read_device_memory
from inference_service.engine.engine import Engine
from inference_service.engine.model_runner import ModelRunner
from inference_service.engine.page_copier import CudaPageCopier
from inference_service.engine.page_pool import PagePool
from inference_service.engine.request import Load, SamplingOptions, Submit
from tests.engine.driver import run_to_end
from tests.engine.mixed import (
    BASE,
    make_resident,
    mixed_logits,
    prompt_for,
    reference_greedy,
    reference_logits,
)

pytestmark = pytest.mark.gpu

MEMORY = 64 << 20
NUM_TOKENS = 24


def config_of(model_path: Path, **options: object) -> EngineConfig:
    settings: dict[str, object] = {"dtype": "float32", "memory_bytes": MEMORY, "max_num_seqs": 20}
    return EngineConfig(str(model_path), device="cuda", **{**settings, **options})  # type: ignore[arg-type]


def greedy(model_path: Path, adapters: dict[str, Path], **options: object) -> dict[str, list[int]]:
    """One request for the base and for each adapter, all at once; their tokens."""
    engine = Engine(config_of(model_path, **options))
    for i, (name, path) in enumerate(adapters.items()):
        engine.handle(Load(1000 + i, name, str(path)))
    sampling = SamplingOptions(temperature=0.0, max_tokens=NUM_TOKENS)
    names = [BASE, *adapters]
    submits = [
        Submit(i, prompt_for(i, 3 + 11 * i), sampling, "" if name == BASE else name)
        for i, name in enumerate(names)
    ]
    results = run_to_end(engine, submits)
    engine.check_integrity()
    engine.close()
    return {name: results[i].token_ids for i, name in enumerate(names)}


def test_logits_of_a_mixed_batch_equal_peft(
    model_path: Path, adapter_paths: dict[str, Path]
) -> None:
    runner = ModelRunner(config_of(model_path))
    pool = PagePool(runner.arena.shape[0])
    adapters = make_resident(runner, pool, adapter_paths)
    prompts, logits = mixed_logits(runner, adapters, pool)
    for name, tokens in prompts.items():
        want = reference_logits(model_path, adapter_paths.get(name), tokens)
        torch.testing.assert_close(logits[name].cpu(), want, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("cuda_graphs", ["on", "off"])
def test_greedy_tokens_of_a_mixed_batch_equal_peft(
    model_path: Path, adapter_paths: dict[str, Path], cuda_graphs: str
) -> None:
    got = greedy(model_path, adapter_paths, cuda_graphs=cuda_graphs)
    for i, (name, tokens) in enumerate(got.items()):
        prompt = prompt_for(i, 3 + 11 * i)
        want = reference_greedy(model_path, adapter_paths.get(name), prompt, NUM_TOKENS)
        assert tokens == want, name


@pytest.mark.parametrize("cuda_graphs", ["on", "off"])
def test_overlapping_steps_change_no_token(
    model_path: Path, adapter_paths: dict[str, Path], cuda_graphs: str
) -> None:
    """As many rows in every step, so also on a GPU to the bit; stop tokens and single tokens end
    requests in an engine of one place."""
    plain = greedy(model_path, adapter_paths, cuda_graphs=cuda_graphs, overlap="off")
    assert greedy(model_path, adapter_paths, cuda_graphs=cuda_graphs, overlap="on") == plain
    drawn = SamplingOptions(max_tokens=40, seed=1, top_k=40, stop_token_ids=tuple(range(2, 12)))
    told = SamplingOptions(
        max_tokens=12, seed=2, repetition_penalty=1.3, logprobs=2, prompt_logprobs=1
    )
    options = [drawn, told, SamplingOptions(temperature=0.0, max_tokens=1)]
    submits = [Submit(i, prompt_for(i, 9), options[i % 3]) for i in range(9)]
    results = []
    for overlap in ("off", "on"):
        settings = {"cuda_graphs": cuda_graphs, "overlap": overlap, "max_num_seqs": 1}
        engine = Engine(config_of(model_path, **settings))
        results.append(run_to_end(engine, submits))
        engine.check_integrity()
        engine.close()
    assert results[0] == results[1]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_two_runs_are_equal(model_path: Path, adapter_paths: dict[str, Path], dtype: str) -> None:
    first = greedy(model_path, adapter_paths, dtype=dtype)
    assert greedy(model_path, adapter_paths, dtype=dtype) == first


def test_an_adapter_is_loaded_while_others_decode(
    model_path: Path, adapter_paths: dict[str, Path]
) -> None:
    """Decoding goes on, its tokens are what they are without the loads, and so are the loaded's."""
    names = list(adapter_paths)
    want = greedy(model_path, adapter_paths)
    engine = Engine(config_of(model_path))
    sampling = SamplingOptions(temperature=0.0, max_tokens=NUM_TOKENS)
    replies = engine.handle(Submit(0, prompt_for(0, 3), sampling, ""))
    for _ in range(4):
        replies += engine.step()
    for i, name in enumerate(names):
        engine.handle(Load(1000 + i, name, str(adapter_paths[name])))
        replies += engine.step()
    submits = [
        Submit(i + 1, prompt_for(i + 1, 3 + 11 * (i + 1)), sampling, name)
        for i, name in enumerate(names)
    ]
    results = run_to_end(engine, submits)
    for i, name in enumerate(names):
        assert results[i + 1].token_ids == want[name], name
    early = [
        token
        for reply in replies
        for output in getattr(reply, "outputs", ())
        for token in output.token_ids
    ]
    assert early + results[0].token_ids == want[BASE]
    engine.close()


def test_the_engine_copies_pages_on_a_stream_of_its_own(model_path: Path) -> None:
    engine = Engine(config_of(model_path))
    assert isinstance(engine._memory._copier, CudaPageCopier)
    engine.close()


def test_a_share_of_the_memory_is_kept_to(model_path: Path, device: torch.device) -> None:
    """After the largest prefill and the largest batch too; CUDA itself and libraries take some."""
    slack = 1 << 30
    torch.cuda.empty_cache()
    total = read_device_memory(device).total_bytes
    before = read_device_memory(device).used_bytes
    share = (before + (6 << 30)) / total
    config = config_of(model_path, memory_bytes=0, gpu_memory_utilization=share)
    engine = Engine(config)
    arena = engine._runner.arena
    assert before + arena.nbytes > share * total - slack
    sampling = SamplingOptions(temperature=0.0, max_tokens=4)
    submits = [Submit(i, prompt_for(i, 200), sampling) for i in range(40)]
    run_to_end(engine, submits)
    assert read_device_memory(device).used_bytes <= share * total + slack
    engine.close()
