"""The benchmark of the front end runs, so that its stub speaks as the engine does."""

import json

import pytest

from benchmarks import front_end


def test_every_token_arrives_and_is_timed(capsys: pytest.CaptureFixture[str]) -> None:
    front_end.main(streams=4, rates="50", seconds=0.4, as_json=True)
    (row,) = json.loads(capsys.readouterr().out)
    assert row["asked_tokens_per_second"] == 200
    assert 0 < row["p50"] <= row["p99"] <= row["worst"]
    assert row["tokens_per_message"] >= 1
