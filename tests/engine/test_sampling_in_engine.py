"""Sampling settings through the whole engine: preemption, chunks, batch mates, adapters."""

from pathlib import Path

import msgspec
import pytest
import torch

from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.engine.request import GetStats, Load, SamplingOptions, Submit, TokenLogprob
from inference_service.engine.self_report import EngineStats
from tests.checkpoints import load_reference, scale_adapter, write_adapter
from tests.engine.driver import Result, run_to_end
from tests.engine.mixed import prompt_for
from tests.engine.sampling_reference import distribution

TUNED = SamplingOptions(
    max_tokens=24,
    min_tokens=3,
    stop_token_ids=(1,),
    temperature=0.8,
    top_p=0.95,
    min_p=0.02,
    repetition_penalty=1.3,
    presence_penalty=0.4,
    frequency_penalty=0.3,
    logit_bias={7: 1.5, 9: -100.0},
    logprobs=3,
)


def make_engine(model_path: Path, num_pages: int = 200, max_tokens: int = 2048) -> Engine:
    config = EngineConfig(
        str(model_path), dtype="float32", max_num_batched_tokens=max_tokens, memory_bytes=1 << 24
    )
    (stats,) = Engine(config).handle(GetStats(0))
    memory_bytes = num_pages * stats.page_bytes  # type: ignore[union-attr]
    return Engine(msgspec.structs.replace(config, memory_bytes=memory_bytes))


def tuned_submits(digest: str = "") -> list[Submit]:
    """Eight requests, no two of the same settings; the last are greedy."""
    settings = [
        msgspec.structs.replace(TUNED, seed=i, temperature=0.0 if i > 5 else 0.5 + i / 5)
        for i in range(8)
    ]
    return [Submit(i, prompt_for(i, 20 + i), settings[i], digest) for i in range(8)]


@pytest.fixture(scope="module")
def roomy(model_path: Path) -> dict[int, Result]:
    return run_to_end(make_engine(model_path), tuned_submits())


def close(one: list[TokenLogprob], other: list[TokenLogprob]) -> bool:
    """But for the rounding of a differently shaped forward pass."""
    return [each.token_id for each in one] == [each.token_id for each in other] and [
        each.logprob for each in one
    ] == pytest.approx([each.logprob for each in other], abs=1e-4)


def test_preempted_requests_sample_the_same(model_path: Path, roomy: dict[int, Result]) -> None:
    """Counts, seeds and logprobs all go on where they were."""
    tight = make_engine(model_path, num_pages=7)
    results = run_to_end(tight, tuned_submits())
    assert tight.num_steps > 2 * 24  # it did take turns
    for request_id, result in results.items():
        assert result.token_ids == roomy[request_id].token_ids
        assert close(result.logprobs, roomy[request_id].logprobs)


def test_a_request_samples_alone_as_among_others(
    model_path: Path, roomy: dict[int, Result]
) -> None:
    engine = make_engine(model_path)
    for submit in tuned_submits():
        alone = run_to_end(engine, [submit])[submit.request_id]
        assert alone.token_ids == roomy[submit.request_id].token_ids
        assert close(alone.logprobs, roomy[submit.request_id].logprobs)


def test_greedy_with_penalties_is_the_references(
    model_path: Path, roomy: dict[int, Result]
) -> None:
    model = load_reference(model_path, None)
    submit = tuned_submits()[7]
    prompt, output = submit.prompt_token_ids, list[int]()
    for _ in roomy[7].token_ids:
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + output])).logits[0, -1].double()
        chances = distribution(logits.tolist(), prompt, output, submit.sampling)
        output.append(chances.index(max(chances)))
    assert roomy[7].token_ids == output


def test_logprobs_are_the_models_own(model_path: Path, roomy: dict[int, Result]) -> None:
    """transformers' log-softmax, whatever was done to the logits before drawing."""
    for submit in tuned_submits():
        result = roomy[submit.request_id]
        expected = reference_logprobs(model_path, None, submit.prompt_token_ids + result.token_ids)
        assert_matches(result.logprobs, expected[len(submit.prompt_token_ids) - 1 :], 3)
        assert [each.token_id for each in result.logprobs] == result.token_ids


def reference_logprobs(
    model_path: Path, adapter_path: Path | None, token_ids: list[int]
) -> torch.Tensor:
    """[tokens - 1, vocab]: row i is about token i + 1."""
    with torch.inference_mode():
        logits = load_reference(model_path, adapter_path)(torch.tensor([token_ids])).logits[0]
    return torch.log_softmax(logits[:-1], -1)


def assert_matches(found: list[TokenLogprob], expected: torch.Tensor, num_top: int) -> None:
    assert len(found) == len(expected)
    for each, row in zip(found, expected, strict=True):
        assert each.logprob == pytest.approx(float(row[each.token_id]), abs=1e-4)
        assert each.rank == 1 + int((row > row[each.token_id]).sum())
        best = row.topk(num_top)
        assert each.top_logprobs == pytest.approx(best.values.tolist(), abs=1e-4)
        assert each.top_ids == best.indices.tolist()


@pytest.mark.parametrize("max_tokens", [2048, 7])
@pytest.mark.parametrize("name", ["", "r12"])
def test_prompt_logprobs_are_transformers(
    model_path: Path, adapter_paths: dict[str, Path], name: str, max_tokens: int
) -> None:
    """In chunks of any size, beside requests that want none; the first token has none."""
    engine = make_engine(model_path, 400, max_tokens)
    if name:
        engine.handle(Load(1, name, str(adapter_paths[name])))
    options = SamplingOptions(max_tokens=3, prompt_logprobs=4, logprobs=0)
    asking = [Submit(i, prompt_for(i, length), options, name) for i, length in enumerate((40, 1))]
    beside = [Submit(i, prompt_for(i, 30), SamplingOptions(max_tokens=9)) for i in (5, 6)]
    results = run_to_end(engine, [beside[0], *asking, beside[1]])
    for submit in asking:
        result = results[submit.request_id]
        expected = reference_logprobs(
            model_path, adapter_paths.get(name), submit.prompt_token_ids + result.token_ids
        )
        num_prompt = len(submit.prompt_token_ids)
        assert_matches(result.prompt_logprobs, expected[: num_prompt - 1], 4)
        assert [each.token_id for each in result.prompt_logprobs] == submit.prompt_token_ids[1:]
        assert all(not each.top_ids for each in result.logprobs)
    assert not any(results[submit.request_id].prompt_logprobs for submit in beside)


def test_a_prompt_in_the_prefix_cache_is_told_of_as_a_whole(model_path: Path) -> None:
    engine = make_engine(model_path)
    told = SamplingOptions(max_tokens=2, prompt_logprobs=1, temperature=0.0)
    plain = msgspec.structs.replace(told, prompt_logprobs=None)
    prompt = prompt_for(3, 64)
    (first,) = run_to_end(engine, [Submit(1, prompt, plain)]).values()
    (stats,) = engine.handle(GetStats(0))
    assert isinstance(stats, EngineStats)
    assert stats.cached_pages > 0
    (asked,) = run_to_end(engine, [Submit(2, prompt, told)]).values()
    assert_matches(asked.prompt_logprobs, reference_logprobs(model_path, None, prompt), 1)
    assert asked.token_ids == first.token_ids


def test_a_preempted_prompt_is_told_of_once(model_path: Path) -> None:
    options = SamplingOptions(max_tokens=30, prompt_logprobs=0, seed=5)
    submits = [Submit(i, prompt_for(i, 40), options) for i in range(4)]
    tight = make_engine(model_path, num_pages=9, max_tokens=16)
    results = run_to_end(tight, submits)
    expected = run_to_end(make_engine(model_path), submits)
    for submit in submits:
        result = results[submit.request_id]
        assert [each.token_id for each in result.prompt_logprobs] == submit.prompt_token_ids[1:]
        assert close(result.prompt_logprobs, expected[submit.request_id].prompt_logprobs)
        assert result.token_ids == expected[submit.request_id].token_ids


def test_a_prompt_whose_logits_overflow_ends_its_request_only(
    model_path: Path, tmp_path: Path
) -> None:
    path = scale_adapter(write_adapter(tmp_path, model_path, 4), 1e35)
    engine = make_engine(model_path, 400, max_tokens=8)
    engine.handle(Load(1, "huge", str(path)))
    options = SamplingOptions(max_tokens=4, prompt_logprobs=1)
    submits = [Submit(0, prompt_for(0, 30), options, "huge"), Submit(1, prompt_for(1, 30), options)]
    results = run_to_end(engine, submits)
    assert results[0].refusal == "OUTPUT_NOT_FINITE"
    assert not results[0].prompt_logprobs
    assert len(results[1].prompt_logprobs) == 29
