"""A short soak: the long one is `python -m tests.engine.soak`."""

from pathlib import Path
from typing import Literal

import pytest

from tests.engine.soak import soak


@pytest.mark.parametrize("overlap", ["off", "on"])
def test_mixed_answers_equal_those_alone(tmp_path: Path, overlap: Literal["off", "on"]) -> None:
    report = soak(tmp_path, num_requests=600, overlap=overlap)
    assert report.mismatches == []
    assert report.num_compared > 550
    for active in (
        *(report.num_chunked, report.num_preemptions, report.num_prefix_hits),
        *(report.num_evictions, report.num_replaced, report.num_unloads_refused),
    ):
        assert active > 0, report
