"""The comparison of engines: what they are asked for, and what is made of their answers."""

import sys
from pathlib import Path

import pytest

from benchmarks.engine_process import EngineFailedError, Launch, running
from benchmarks.engine_results import OURS, Results
from benchmarks.engine_scenarios import BARS, BASE_16, MIXED, SCENARIOS, Bar
from benchmarks.peers.driver import Job, Setup
from benchmarks.peers.launch import Peer
from tests.checkpoints import write_checkpoint

OWN_ENGINE = Launch("benchmarks.own_engine", Path(sys.executable))


def test_no_two_prompts_begin_alike() -> None:
    jobs = [scenario.job(number) for number, scenario in enumerate(SCENARIOS * 3)]
    beginnings = [tuple(prompt[:16]) for job in jobs for prompt in job.prompts]
    assert len(set(beginnings)) == len(beginnings)
    assert all(3 <= token < 32000 for job in jobs for prompt in job.prompts for token in prompt)


def test_every_bar_is_of_what_runs() -> None:
    for bar in BARS:
        assert bar.scenario in SCENARIOS
        assert bar.peer is None or bar.peer in bar.against.peers


def test_ratios_are_of_the_same_round() -> None:
    results = Results()
    results.add_start(OURS, 7.0)
    for number, (ours, theirs) in enumerate([(50.0, 25.0), (60.0, 20.0), (10.0, 10.0)]):
        results.add(OURS, BASE_16, str(number), ours)
        results.add(OURS, MIXED, str(number), 0.8 * ours)
        results.add(Peer.transformers, BASE_16, str(number), theirs)
    results.add(OURS, BASE_16, "alone", 1000.0)
    assert results.ratio(Bar(BASE_16, BASE_16, 1.7, Peer.transformers)) == 2.0
    assert results.ratio(Bar(BASE_16, BASE_16, 1.1, Peer.vllm)) is None
    rows = {(row.name, row.bar): row for row in results.rows(bytes_floor=0.75)}
    assert rows["16 requests, base only", ""].figures == {OURS: 55.0, "transformers": 20.0}
    assert rows["16 requests, base only", "≥ 1.7 transformers"].met
    own = rows["16 distinct adapters / 16 requests, base only", "≥ 0.75 ours"]
    assert own.met
    assert own.figures["ratio"] == pytest.approx(0.8)
    assert rows["start to first token, seconds", "≤ 8 s"].met


def test_an_engine_in_a_process_of_its_own(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "model")
    with running(OWN_ENGINE, Setup(str(model), [], 1, 64), tmp_path / "log") as engine:
        assert engine.start_seconds > 0
        assert engine.run(Job([[5, 6, 7], [8, 9, 10]], [None, None], 4)).num_tokens == 8
        with pytest.raises(EngineFailedError, match="made 0 tokens"):
            engine.run(Job([[5]], [0], 4))
