"""The watch benchmark, small: every watcher hears of every change."""

from benchmarks.watch import run


def test_every_watcher_hears_of_every_change() -> None:
    assert run(num_processes=1, num_watchers=40, num_changes=4) < 10
