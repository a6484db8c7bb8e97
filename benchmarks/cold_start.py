"""What an adapter's first request waits for, and what its load costs the streams beside it.

    python -m benchmarks.cold_start [--layers 4] [--rank 32] [--runs 15] [--json]

A registry and an inference service as processes, TinyLlama's shape with few layers. In each run,
in turns: the time to the first token with the base model, with a warm adapter, with one that was
prefetched a moment ago, and with one that is in the registry only. That last one is held against
its parts: its bytes read from the registry by a bare client, its load from disk by a prefetch, and
the first token of a warm one. Ratios are medians of the ratios within a run.

Then 8 streams of the base model decode, in turns in windows without loads, with loads from disk one
after the other, and with cold loads, for which the registry, which would be elsewhere, takes its
share of the same cores. Their time between tokens is compared.
"""

import itertools
import json
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.options import AsJson, Layers
from benchmarks.shape_service import serving, write_adapters, write_served_model
from lorikeet.admin import AdminClient
from lorikeet.client import Client

_PROMPT_TOKENS = 64
_NUM_STREAMS = 8


@dataclass(frozen=True)
class FirstTokens:
    """Milliseconds of one run."""

    base: float
    warm: float
    prefetched: float
    cold: float
    download: float
    load: float

    @property
    def parts(self) -> float:
        return self.download + self.load + self.warm


@dataclass(frozen=True)
class Row:
    """A median, the median of its ratios to what it is held against, and the bar for that."""

    name: str
    milliseconds: float
    ratio: float
    bar: float


class Bench:
    """One tenant's client, and an adapter that comes and goes beside one that stays."""

    def __init__(self, admin: AdminClient, client: Client, directory: Path) -> None:
        self._admin, self._client, self._directory = admin, client, directory
        self._random = random.Random(0)
        self._numbers = itertools.count()

    def first_tokens(self) -> FirstTokens:
        base, warm = self.first_token(), self.first_token("warm")
        self.forget()
        self.prefetch()
        prefetched = self.first_token("cold")
        self.forget()
        cold = self.first_token("cold")
        download = self._download()
        self.forget(delete=False)
        load = self.prefetch()
        return FirstTokens(base, warm, prefetched, cold, download, load)

    def first_token(self, adapter: str = "") -> float:
        """Milliseconds, with a prompt that no cache knows."""
        prompt = [self._random.randrange(5, 400) for _ in range(_PROMPT_TOKENS)]
        began = time.perf_counter()
        stream = self._client.generate_stream(
            prompt, adapter, max_tokens=2, temperature=0.0, ignore_eos=True
        )
        with stream:
            next(iter(stream))
            waited = time.perf_counter() - began
            for _ in stream:
                pass
        return 1000 * waited

    def prefetch(self) -> float:
        began = time.perf_counter()
        for _ in self._client.prefetch(["cold"]):
            pass
        return 1000 * (time.perf_counter() - began)

    def forget(self, *, delete: bool = True) -> None:
        self._client.unload("cold", drain=True, delete_from_disk=delete)

    def _download(self) -> float:
        target = self._directory / f"download-{next(self._numbers)}"
        began = time.perf_counter()
        self._admin.download("bench/cold@1", target)
        return 1000 * (time.perf_counter() - began)


class Streams:
    """Streams that decode in the background; what lies between their tokens, by window."""

    def __init__(self, client: Client, max_tokens: int) -> None:
        self._client, self._max_tokens = client, max_tokens
        self._gaps: list[float] = []
        self._threads = [threading.Thread(target=self._read) for _ in range(_NUM_STREAMS)]
        self._is_over = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            for thread in self._threads:
                thread.join()

    def take_gaps(self) -> list[float]:
        """Milliseconds since the last call."""
        gaps, self._gaps = self._gaps, []
        return gaps

    def _read(self) -> None:
        while not self._is_over.is_set():
            last = None
            prompt = [7, 8, 9]
            with self._client.generate_stream(
                prompt, max_tokens=self._max_tokens, temperature=0.0, ignore_eos=True
            ) as stream:
                for _ in stream:
                    now = time.perf_counter()
                    if last is not None:
                        self._gaps.append(1000 * (now - last))
                    last = now
                    if self._is_over.is_set():
                        return


def main(
    layers: Layers = 4,
    rank: int = 32,
    runs: int = 15,
    windows: int = 6,
    window_seconds: float = 5.0,
    as_json: AsJson = False,
) -> None:
    """Times all of it, after one warm-up."""
    with _started(layers, rank) as (bench, client):
        bench.first_tokens()
        results = [bench.first_tokens() for _ in range(runs)]
        gaps = _time_streams(bench, client, windows, window_seconds)
    rows = [*_first_token_rows(results), *_stream_rows(gaps)]
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        Console().print(_table(rows, layers, rank))


@contextmanager
def _started(layers: int, rank: int) -> Iterator[tuple[Bench, Client]]:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        model = write_served_model(root, layers)
        warm, cold = write_adapters(root, model, [rank, rank]).values()
        with (
            serving(model, {"warm": warm, "cold": cold}) as served,
            served.stack.client(served.key) as client,
        ):
            yield Bench(served.admin, client, root), client


@dataclass(frozen=True)
class Gaps:
    """Milliseconds between tokens in three windows that came one after the other."""

    alone: list[float]
    beside_disk: list[float]
    beside_cold: list[float]


def _time_streams(bench: Bench, client: Client, windows: int, seconds: float) -> list[Gaps]:
    streams = Streams(client, max_tokens=1500)

    def window(delete: bool | None) -> list[float]:
        """`delete`: whether loads begin at the registry; None for no loads."""
        streams.take_gaps()
        end = time.perf_counter() + seconds
        while delete is not None and time.perf_counter() < end:
            bench.forget(delete=delete)
            bench.prefetch()
        time.sleep(max(0.0, end - time.perf_counter()))
        return streams.take_gaps()

    with streams.running():
        time.sleep(seconds / 2)
        return [Gaps(window(None), window(False), window(True)) for _ in range(windows)]


def _first_token_rows(results: list[FirstTokens]) -> list[Row]:
    def row(name: str, mine: str, held_against: str, bar: float) -> Row:
        times = [getattr(result, mine) for result in results]
        ratios = [getattr(r, mine) / getattr(r, held_against) for r in results]
        return Row(name, statistics.median(times), statistics.median(ratios), bar)

    return [
        row("first token, base model", "base", "base", 1.0),
        row("warm adapter, to the base model", "warm", "base", 1.1),
        row("after a prefetch, to a warm adapter", "prefetched", "warm", 1.05),
        row("cold, to download + load + first token of a warm one", "cold", "parts", 1.3),
    ]


def _stream_rows(gaps: list[Gaps]) -> list[Row]:
    def p99(window: list[float]) -> float:
        return statistics.quantiles(window, n=100, method="inclusive")[98]

    def row(name: str, beside: list[list[float]]) -> Row:
        ratios = [p99(mine) / p99(each.alone) for mine, each in zip(beside, gaps, strict=True)]
        return Row(name, statistics.median(map(p99, beside)), statistics.median(ratios), 1.2)

    between = f"between tokens of {_NUM_STREAMS} streams, p99, to without loads"
    return [
        row(f"{between}: loads from disk", [each.beside_disk for each in gaps]),
        row(f"{between}: cold loads", [each.beside_cold for each in gaps]),
    ]


def _table(rows: list[Row], layers: int, rank: int) -> Table:
    table = Table(title=f"{layers} layers of TinyLlama's shape, adapters of rank {rank}")
    for heading in ("", "ms", "ratio", "bar"):
        table.add_column(heading, justify="right" if heading else "left")
    for row in rows:
        table.add_row(row.name, f"{row.milliseconds:.1f}", f"{row.ratio:.2f}", f"≤ {row.bar:.2f}")
    return table


if __name__ == "__main__":
    typer.run(main)
