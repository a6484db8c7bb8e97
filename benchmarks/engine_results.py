"""What the engines made of the scenarios, and whether the bars are met."""

import statistics
from collections.abc import Sequence

from benchmarks.engine_scenarios import (
    BARS,
    BASE_16,
    LEAST_OF_FLOOR,
    MIXED,
    MOST_START_SECONDS,
    SCENARIOS,
    Bar,
    Scenario,
)
from benchmarks.peers.launch import Peer
from benchmarks.report import Row

OURS = "ours"


class Results:
    """Tokens per second by engine, scenario and round; seconds that engines took to start."""

    def __init__(self) -> None:
        self._rates: dict[tuple[str, Scenario], dict[str, float]] = {}
        self._start_seconds: dict[str, list[float]] = {}

    def add(self, engine: str, scenario: Scenario, round_name: str, rate: float) -> None:
        self._rates.setdefault((engine, scenario), {})[round_name] = rate

    def add_start(self, engine: str, seconds: float) -> None:
        self._start_seconds.setdefault(engine, []).append(seconds)

    def rate(self, engine: str, scenario: Scenario) -> float | None:
        """The median of the rounds."""
        rates = self._rates.get((engine, scenario))
        return statistics.median(rates.values()) if rates else None

    def ratio(self, bar: Bar) -> float | None:
        """The median of the ratios within a round; None where no round had both."""
        ours = self._rates.get((OURS, bar.scenario), {})
        theirs = self._rates.get((_name(bar.peer), bar.against), {})
        ratios = [ours[name] / theirs[name] for name in ours if name in theirs]
        return statistics.median(ratios) if ratios else None

    def start_seconds(self) -> dict[str, float]:
        return {engine: statistics.median(s) for engine, s in self._start_seconds.items()}

    def rows(self, bytes_floor: float) -> list[Row]:
        """Scenarios, starts, then the bars that were measured."""
        engines = list(dict.fromkeys(engine for engine, _ in self._rates))
        rates = [self._rate_row(scenario, engines) for scenario in SCENARIOS]
        measured = [row for row in rates if row.figures]
        bars = [_bar_row(bar, self.ratio(bar)) for bar in BARS if self.ratio(bar) is not None]
        return [*measured, self._start_row(), *bars, self._floor_row(bytes_floor)]

    def _rate_row(self, scenario: Scenario, engines: Sequence[str]) -> Row:
        rates = {engine: self.rate(engine, scenario) for engine in engines}
        return Row(scenario.name, {name: rate for name, rate in rates.items() if rate is not None})

    def _start_row(self) -> Row:
        seconds = self.start_seconds()
        return Row(
            "start to first token, seconds",
            dict(seconds),
            f"≤ {MOST_START_SECONDS:g} s",
            seconds[OURS] <= MOST_START_SECONDS,
        )

    def _floor_row(self, bytes_floor: float) -> Row:
        ratio = self.ratio(Bar(MIXED, BASE_16, 0.0))
        assert ratio is not None
        share = ratio / bytes_floor
        name = f"{MIXED.name}, of what their bytes allow ({bytes_floor:.2f} of base only)"
        return Row(name, {"ratio": share}, f"≥ {LEAST_OF_FLOOR:g}", share >= LEAST_OF_FLOOR)


def _bar_row(bar: Bar, ratio: float | None) -> Row:
    assert ratio is not None
    return Row(bar.name, {"ratio": ratio}, f"≥ {bar.least:g} {_name(bar.peer)}", ratio >= bar.least)


def _name(peer: Peer | None) -> str:
    return OURS if peer is None else peer.value
