"""Published loads are drawn as their papers say, and the offline driver asks all of them."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.offline_load import OfflineLoad, make_engine
from benchmarks.published import SloraLoad, punica_requests, scaled
from inference_service.engine.config import EngineConfig
from lorikeet.load.prompts import Prompts
from lorikeet.load.report import Report
from lorikeet.load.workload import PlannedRequest
from tests.checkpoints import write_adapter, write_checkpoint


def counts(popularity: str, count: int) -> list[int]:
    """Requests by adapter, the most popular first."""
    requests = punica_requests(popularity, count)
    return [number for _, number in Counter(r.adapter for r in requests).most_common()]


def test_slora_is_drawn_in_the_published_order() -> None:
    """Of numpy's seed 42, and in the order of the published script."""
    requests = SloraLoad(num_adapters=100, rate=4.0, seconds=50.0, alpha=0.3, cv=2.0).requests(
        [str(index) for index in range(100)]
    )
    assert len(requests) == 200
    first = requests[0]
    assert (first.adapter, first.prompt_tokens, first.output_tokens) == ("3", 415, 362)
    assert all(8 <= request.prompt_tokens < 512 for request in requests)
    assert [request.due for request in requests] == sorted(request.due for request in requests)
    assert requests[-1].due == pytest.approx(50.0, rel=0.3)


def test_punica_spreads_requests_as_named() -> None:
    assert counts("distinct", 30) == [1] * 30
    assert counts("identical", 30) == [30]
    assert counts("uniform", 30) == [5] * 6
    assert counts("zipf:1.5", 30) == [11, 7, 5, 3, 2, 1, 1]


def test_punica_prompts_and_answers_share_a_total() -> None:
    requests = punica_requests("identical", 500)
    assert all(r.prompt_tokens >= 1 and r.output_tokens >= 1 for r in requests)
    assert max(r.prompt_tokens + r.output_tokens for r in requests) < 2048 + 60
    mean = sum(request.prompt_tokens for request in requests) / len(requests)
    assert mean == pytest.approx(18 * 1.377 - 1, rel=0.2)  # a lognormal's mean: e^(s²/2)


def test_a_scaled_load_is_shorter_and_never_empty() -> None:
    (request,) = scaled([PlannedRequest(0, 0.0, "", "", 80, 3)], 0.125)
    assert (request.prompt_tokens, request.output_tokens) == (10, 1)


def test_the_offline_driver_asks_all_and_counts_from_when_each_was_due(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "model")
    adapter = write_adapter(tmp_path / "adapter", model, rank=4)
    engine = make_engine(EngineConfig(str(model), max_model_len=128), {"a": str(adapter)})
    load = OfflineLoad(engine, Prompts(tuple(range(5, 60)), "salt"))
    requests = [
        PlannedRequest(number, 0.01 * number, "a" * (number % 2), f"t{number % 3}", 8, 4)
        for number in range(9)
    ]
    opened = Report.of(load.opened(iter(requests)))
    closed = Report.of(load.closed(iter(requests), concurrency=4))
    for report in (opened, closed):
        assert report.all.num_requests == 9
        assert not report.all.num_failed
        assert set(report.by_tenant) == {"t0", "t1", "t2"}
        assert report.all.to_first_token.p50 is not None
    assert opened.seconds >= 0.08
    assert engine.is_idle
    engine.close()


def test_what_is_cut_leaves_nothing_in_the_engine(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "model")
    engine = make_engine(EngineConfig(str(model), max_model_len=128), {})
    load = OfflineLoad(engine, Prompts(tuple(range(5, 60)), "salt"))
    many = (PlannedRequest(number, 0.0, "", "", 8, 100) for number in range(200))
    measured = load.opened(many, cut_after=0.05)
    assert len(measured.samples) < 200
    assert engine.is_idle
    engine.check_integrity()
    engine.close()
