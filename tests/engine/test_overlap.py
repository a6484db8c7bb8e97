"""Steps that overlap give what steps one after the other give, to the bit, and no token more."""

import itertools
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference_service.engine.bucket_runner import CallReplay
from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.engine.request import (
    Abort,
    Command,
    Load,
    SamplingOptions,
    StepOutput,
    Submit,
    TokenOutput,
    Unload,
    Unloaded,
)
from tests.engine.driver import Result, answer, run_to_end, stats_of
from tests.engine.mixed import prompt_for

Overlap = Literal["off", "on"]
OVERLAPS: tuple[Overlap, ...] = ("off", "on")
NAMES = ["r1", "r3", "rslora"]
GREEDY = SamplingOptions(temperature=0.0, max_tokens=12)
OPTIONS = {
    "greedy": GREEDY,
    "one token": SamplingOptions(temperature=0.0, max_tokens=1),
    "drawn": SamplingOptions(max_tokens=20, seed=3),
    "nucleus": SamplingOptions(max_tokens=9, seed=4, top_p=0.8, min_p=0.01, logprobs=0),
    "stops": SamplingOptions(max_tokens=30, seed=5, stop_token_ids=tuple(range(2, 30))),
    "stops late": SamplingOptions(
        max_tokens=25, min_tokens=6, seed=6, stop_token_ids=tuple(range(2, 50)), top_k=50
    ),
    "penalties": SamplingOptions(
        max_tokens=14, repetition_penalty=1.4, frequency_penalty=0.5, temperature=0.0, logprobs=2
    ),
    "bias": SamplingOptions(max_tokens=6, seed=8, logit_bias={7: 4.0, 9: -100.0}),
    "told of": SamplingOptions(max_tokens=5, prompt_logprobs=2, logprobs=1, seed=9),
}


def make_engine(model_path: Path, num_pages: int, budget: int, overlap: Overlap) -> Engine:
    config = EngineConfig(
        str(model_path),
        dtype="float32",
        memory_bytes=1 << 20,
        max_num_seqs=5,
        max_num_batched_tokens=budget,
        num_threads=1,
        overlap=overlap,
    )
    page_bytes = stats_of(Engine(config)).page_bytes
    return Engine(msgspec.structs.replace(config, memory_bytes=num_pages * page_bytes))


@pytest.fixture(scope="module", params=[(60, 64), (12, 24)], ids=["roomy", "preempting"])
def engines(
    request: pytest.FixtureRequest, model_path: Path, adapter_paths: dict[str, Path]
) -> dict[Overlap, Engine]:
    num_pages, budget = request.param
    engines = {o: make_engine(model_path, num_pages, budget, o) for o in OVERLAPS}
    for engine, name in itertools.product(engines.values(), NAMES):
        answer(engine, Load(0, name, str(adapter_paths[name])))
    return engines


REQUESTS = st.tuples(
    st.sampled_from(sorted(OPTIONS)),
    st.integers(1, 60),
    st.sampled_from(["", *NAMES]),
    st.sampled_from("ab"),
    st.integers(0, 4),
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(requests=st.lists(REQUESTS, min_size=1, max_size=14))
def test_any_requests_are_answered_the_same(
    engines: dict[Overlap, Engine], requests: list[tuple[str, int, str, str, int]]
) -> None:
    results = {}
    for overlap, engine in engines.items():
        outputs: list[TokenOutput] = []
        for number, (options, num_prompt, name, tenant, num_steps) in enumerate(requests):
            prompt = [2 + number % 3 + i % 40 for i in range(num_prompt)]
            submit = Submit(number, prompt, OPTIONS[options], name, tenant)
            outputs += outputs_of(engine, [submit], num_steps)
        outputs += outputs_of(engine, [], 10**6)
        assert stats_of(engine).kv_pages == 0
        results[overlap] = collected(outputs)
    assert results["on"] == results["off"]
    assert len(results["on"]) == len(requests)


def outputs_of(engine: Engine, commands: list[Command], max_steps: int) -> list[TokenOutput]:
    """Of so many steps at most; pages add up after each."""
    replies = [reply for command in commands for reply in engine.handle(command)]
    for _ in range(max_steps):
        if engine.is_idle:
            break
        replies += engine.step()
        engine.check_integrity()
    return [out for reply in replies if isinstance(reply, StepOutput) for out in reply.outputs]


def collected(outputs: list[TokenOutput]) -> dict[int, Result]:
    results: dict[int, Result] = {}
    for output in outputs:
        result = results.setdefault(output.request_id, Result())
        assert not result.finish_reason, "output after the last one"
        result.token_ids += output.token_ids
        result.logprobs += output.logprobs
        result.prompt_logprobs += output.prompt_logprobs
        result.finish_reason, result.refusal = output.finish_reason, output.refusal
    return results


def test_a_step_is_launched_before_the_one_before_it_is_finished(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def order(overlap: Overlap) -> str:
        engine = make_engine(model_path, 30, 64, overlap)
        events: list[str] = []
        for name in ("forward", "sample", "finish"):
            stage = getattr(engine._steps, name)

            def noted(*args: object, name: str = name, stage: object = stage) -> object:
                events.append(name[0] if name != "finish" else "x")
                return stage(*args)  # type: ignore[operator]

            monkeypatch.setattr(engine._steps, name, noted)
        sampling = msgspec.structs.replace(GREEDY, max_tokens=4)
        run_to_end(engine, [Submit(1, [5, 6, 7], sampling)])
        return "".join(events)

    assert order("off") == "fsx" * 4
    assert order("on") == "fs" + "fxs" * 3 + "x"


def test_what_follows_a_stop_token_is_neither_sent_nor_kept(model_path: Path) -> None:
    """Of 32 tokens the last is a stop token: its block is full, and computed, one step too late."""
    engine = make_engine(model_path, 30, 64, "on")
    block_tokens = engine.info.block_tokens
    prompt = prompt_for(1, block_tokens + 3)
    endless = SamplingOptions(temperature=0.0, max_tokens=40)
    tokens = run_to_end(engine, [Submit(1, prompt, endless)])[1].token_ids
    num_output = 2 * block_tokens - len(prompt)
    stop = tokens[num_output - 1]
    num_output = tokens.index(stop) + 1
    engine = make_engine(model_path, 30, 64, "on")
    stopping = msgspec.structs.replace(endless, stop_token_ids=(stop,))
    num_before = engine.num_steps
    result = run_to_end(engine, [Submit(2, prompt, stopping)])[2]
    assert (result.token_ids, result.finish_reason) == (tokens[:num_output], "stop")
    assert engine.num_steps - num_before == num_output + 1  # it was in one step too many
    stats = stats_of(engine)
    assert stats.kv_pages == 0
    assert stats.cached_pages == (len(prompt) + num_output - 1) // block_tokens
    # Whoever takes the freed page, and finds the cached ones, computes what it would have anyway.
    again = run_to_end(engine, [Submit(3, prompt + tokens[:num_output], endless)])[3]
    fresh = make_engine(model_path, 30, 64, "off")
    assert again == run_to_end(fresh, [Submit(3, prompt + tokens[:num_output], endless)])[3]


def test_an_abort_drops_the_token_on_its_way(
    model_path: Path, adapter_paths: dict[str, Path]
) -> None:
    """Also where the request's id, its adapter's pages and its own are taken again at once."""
    engine = make_engine(model_path, 30, 64, "on")
    answer(engine, Load(0, "r3", str(adapter_paths["r3"])))
    other, beside = Submit(1, prompt_for(4, 20), GREEDY), Submit(2, prompt_for(3, 20), GREEDY)
    want = run_to_end(make_engine(model_path, 30, 64, "off"), [other, beside])
    engine.handle(beside)
    engine.handle(Submit(1, prompt_for(5, 20), GREEDY, "r3"))
    early = outputs_of(engine, [], 3)
    engine.handle(Abort(1))
    assert not engine.is_idle
    (reply,) = engine.handle(Unload(3, "r3"))
    assert isinstance(reply, Unloaded)
    late = outputs_of(engine, [other], 10**6)
    assert collected([o for o in late if o.request_id == 1])[1] == want[1]
    assert collected([o for o in early + late if o.request_id == 2])[2] == want[2]
    assert stats_of(engine).kv_pages == 0


def test_an_engine_is_idle_once_the_last_tokens_are_there(model_path: Path) -> None:
    engine = make_engine(model_path, 30, 64, "on")
    engine.handle(Submit(1, [5, 6, 7], SamplingOptions(max_tokens=1)))
    assert outputs_of(engine, [], 1) == []
    assert not engine.is_idle
    (output,) = outputs_of(engine, [], 1)
    assert output.finish_reason == "length"
    assert engine.is_idle
    assert stats_of(engine).num_steps == sum(stats_of(engine).steps.sizes.counts) == 1


def test_padded_steps_read_the_tokens_on_their_way(model_path: Path) -> None:
    """As on a GPU, where they are graphs."""
    submits = [Submit(i, prompt_for(i, 5 + i), GREEDY) for i in range(5)]
    results = []
    for overlap in OVERLAPS:
        engine = make_engine(model_path, 60, 64, overlap)
        engine._runner.use_buckets(CallReplay, max_num_seqs=5)
        results.append(run_to_end(engine, submits))
    assert results[0] == results[1]


def test_auto_is_off_on_a_cpu(model_path: Path) -> None:
    engine = Engine(EngineConfig(str(model_path), dtype="float32", memory_bytes=1 << 20))
    engine.handle(Submit(1, [5, 6, 7], SamplingOptions(max_tokens=1)))
    engine.step()
    assert engine.is_idle
