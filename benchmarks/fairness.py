"""One tenant asks ten times as much as another: what that does to the other's first tokens.

    python -m benchmarks.fairness [--prompt-tokens 64] [--output-tokens 32] [--seconds 40] [--json]

First a closed loop says how many requests per second the machine bears. Then the victim asks
`--load` of that (two tenants' shares are half of it each), alone, and again while the aggressor
asks ten times as often, which is more than the machine bears: its queue only grows, and the
tenants' shares decide. Requests come at random (Poisson) times, for the victim the same in both.
The engine runs offline, the base model only: adapters are `thrash`'s.

What is left of the ratio is steps: who comes while the machine idles begins at once, who comes
while it is busy waits for the step that runs. With --load 0.3 the victim's bursts are more than its
share, and wait for it.
"""

import heapq
import itertools
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import typer
from rich.progress import track

from benchmarks.offline_load import OfflineLoad
from benchmarks.options import AsJson, Keep, Layers, Output
from benchmarks.report import Machine, Report, Row, publish
from benchmarks.shape_service import PROMPT_TOKENS, workspace, write_served_model
from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from lorikeet.load.lengths import UniformLengths
from lorikeet.load.popularity import identical
from lorikeet.load.prompts import Prompts
from lorikeet.load.report import Figures
from lorikeet.load.report import Report as LoadReport
from lorikeet.load.workload import PlannedRequest, Workload, plan

_BAR = 2.0
_VICTIM, _AGGRESSOR = "victim", "aggressor"
_TIMES_AS_OFTEN = 10
_APART = 1_000_000  # between the numbers of the tenants' requests: their prompts differ


def main(
    layers: Layers = 4,
    load: Annotated[float, typer.Option(help="The victim's, of what the machine bears.")] = 0.15,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Of each request.")] = 64,
    output_tokens: Annotated[int, typer.Option(min=1)] = 32,
    capacity: Annotated[
        float | None, typer.Option(help="Requests per second it bears, where that is known.")
    ] = None,
    seconds: float = 40.0,
    grace: Annotated[
        float, typer.Option(help="Seconds for the victim's last requests, under the same load.")
    ] = 10.0,
    runs: int = 2,
    max_num_batched_tokens: int = EngineConfig("").max_num_batched_tokens,
    keep: Keep = None,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Runs the victim alone and beside the aggressor, `runs` times in turns."""
    machine = Machine.measure()
    with workspace(keep) as directory:
        model = write_served_model(directory, layers)
        config = EngineConfig(
            str(model), memory_bytes=2 << 30, max_num_batched_tokens=max_num_batched_tokens
        )
        engine = Engine(config)
        requests = _Requests(prompt_tokens, output_tokens)
        capacity = capacity or _capacity(engine, requests)
        alone, beside = [], []
        for run in track(range(runs), "runs"):
            victim = list(requests.planned(_VICTIM, load * capacity, seconds, run))
            alone.append(_run(engine, iter(victim), run, None)[_VICTIM])
            often = _TIMES_AS_OFTEN * load * capacity
            much = requests.planned(_AGGRESSOR, often, seconds + grace, run)
            both = heapq.merge(victim, much, key=lambda request: request.due)
            beside.append(_run(engine, both, run, seconds + grace))
            assert beside[-1][_VICTIM].num_requests == len(victim), (
                "the victim starves, or needs more grace"
            )
    title = (
        f"A victim at {load * capacity:.2g} requests/s, an aggressor at {_TIMES_AS_OFTEN} times as "
        f"many, a machine that bears {capacity:.3g}; {prompt_tokens} tokens in and {output_tokens} "
        f"out, {layers} layers: milliseconds to first tokens"
    )
    ratio = statistics.median(
        _p99(b[_VICTIM]) / _p99(a) for a, b in zip(alone, beside, strict=True)
    )
    rows = [
        _row("victim alone", alone),
        replace(
            _row("victim beside the aggressor", [figures[_VICTIM] for figures in beside], ratio),
            bar=f"p99 ≤ {_BAR:g} × alone",
            met=ratio <= _BAR,
        ),
        _row("the aggressor's answered requests", [figures[_AGGRESSOR] for figures in beside]),
    ]
    publish(Report(title, machine, rows), as_json, output)


@dataclass(frozen=True)
class _Requests:
    """Of one shape."""

    prompt_tokens: int
    output_tokens: int

    def endless(self, tenant: str, rate: float | None, seed: int) -> Iterator[PlannedRequest]:
        prompt = UniformLengths(self.prompt_tokens, self.prompt_tokens)
        output = UniformLengths(self.output_tokens, self.output_tokens)
        workload = Workload(identical, prompt, output)
        return plan(workload, adapters=("",), tenants=(tenant,), rate=rate, seed=seed)

    def planned(
        self, tenant: str, rate: float, seconds: float, run: int
    ) -> Iterator[PlannedRequest]:
        first = _APART * (tenant == _AGGRESSOR)
        requests = self.endless(tenant, rate, seed=2 * run + (tenant == _AGGRESSOR))
        for request in itertools.takewhile(lambda request: request.due < seconds, requests):
            yield replace(request, number=first + request.number)


def _capacity(engine: Engine, requests: _Requests) -> float:
    """Requests per second of a closed loop of as many as run at once, after one of a few."""
    many = engine.info.max_num_seqs
    for salt, count in (("warm-up", 8), ("capacity", 3 * many)):
        planned = itertools.islice(requests.endless(_VICTIM, None, 0), count)
        load = OfflineLoad(engine, Prompts(PROMPT_TOKENS, salt))
        report = LoadReport.of(load.closed(planned, many))
    return report.all.requests_per_second


def _run(
    engine: Engine, planned: Iterator[PlannedRequest], run: int, cut_after: float | None
) -> dict[str, Figures]:
    """By tenant, of the requests that ended."""
    load = OfflineLoad(engine, Prompts(PROMPT_TOKENS, f"{run} {cut_after}"))
    report = LoadReport.of(load.opened(planned, cut_after))
    assert not report.all.num_failed, report.all.failures
    return report.by_tenant


def _p99(figures: Figures) -> float:
    assert figures.to_first_token.p99 is not None
    return figures.to_first_token.p99


def _row(name: str, runs: list[Figures], ratio: float | None = None) -> Row:
    def milliseconds(percentile: str) -> float:
        firsts = (getattr(each.to_first_token, percentile) for each in runs)
        return 1000 * float(statistics.median(firsts))

    return Row(
        name,
        {
            "requests": statistics.median(each.num_requests for each in runs),
            "p50": milliseconds("p50"),
            "p90": milliseconds("p90"),
            "p99": milliseconds("p99"),
            "p99, ratio": ratio,
            "tokens/s": statistics.median(each.output_tokens_per_second for each in runs),
        },
    )


if __name__ == "__main__":
    typer.run(main)
