"""What the engine tells of its own work: its steps, how requests waited, where adapters were."""

from pathlib import Path

import pytest

from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.engine.request import (
    Load,
    Loaded,
    SamplingOptions,
    StepOutput,
    Submit,
    TokenOutput,
)
from inference_service.engine.tally import Tally
from tests.engine.driver import answer, run_to_end, stats_of


@pytest.fixture
def engine(model_path: Path) -> Engine:
    return Engine(EngineConfig(str(model_path), dtype="float32", memory_bytes=4 << 20))


def submit(request_id: int, num_prompt: int, max_tokens: int) -> Submit:
    options = SamplingOptions(temperature=0.0, max_tokens=max_tokens)
    return Submit(request_id, [2 + i for i in range(num_prompt)], options)


def outputs_of(engine: Engine) -> list[TokenOutput]:
    """Steps until it is idle."""
    replies = []
    while not engine.is_idle:
        replies += engine.step()
    return [o for reply in replies if isinstance(reply, StepOutput) for o in reply.outputs]


def test_steps_are_counted_by_sequences_and_tokens(engine: Engine) -> None:
    run_to_end(engine, [submit(1, 10, 4), submit(2, 20, 4)])
    stats = stats_of(engine)
    steps = stats.steps
    assert (steps.num_prefill_tokens, steps.num_decode_tokens) == (30, 2 * 3)
    assert sum(steps.sizes.counts) == sum(steps.seconds.counts) == stats.num_steps == 4
    assert steps.sizes.counts[steps.sizes.bounds.index(2)] == 4
    assert steps.tokens.total == 36
    assert 0 < steps.seconds.total < 60


def test_the_first_output_says_how_long_the_request_waited(engine: Engine) -> None:
    assert engine.handle(submit(1, 10, 2)) == []
    first, second = outputs_of(engine)
    assert 0 < first.queue_seconds < 60
    assert second.queue_seconds == 0


def test_a_load_says_where_it_found_the_adapter(
    engine: Engine, adapter_paths: dict[str, Path]
) -> None:
    for found_on in ("disk", "device"):
        reply = answer(engine, Load(1, "r12", str(adapter_paths["r12"])))
        assert isinstance(reply, Loaded)
        assert (reply.adapter.found_on, reply.adapter.tier) == (found_on, "device")
    assert [adapter.found_on for adapter in stats_of(engine).adapters] == [""]


def test_a_tally_counts_up_to_and_including_its_bounds() -> None:
    tally = Tally((1, 2, 5))
    for value in (0.5, 1, 1.5, 5, 7):
        tally.add(value)
    tally.add(2, count=3)
    reading = tally.reading()
    assert reading.counts == [2, 4, 1, 1]
    assert reading.total == pytest.approx(21)
