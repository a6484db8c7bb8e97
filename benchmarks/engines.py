"""The offline engine beside its peers: tokens per second, ratios in one run, and the bars.

    python -m benchmarks.engines [--layers 4] [--rounds 3] [--json] [--output engines.json]
    python -m benchmarks.engines --peers transformers,peft,vllm,vllm-lora,llama.cpp

A random checkpoint of TinyLlama-1.1B's shape in bfloat16 and 16 adapters of ranks 8, 16, 32 and 64
on all linear modules. Each engine is a process, in the peers' case in an environment of its own
(`python -m benchmarks.peers.install vllm`), with every core; they run one at a time, in turns
scenario by scenario. A rate is output tokens per second from the prompts to the last token, prefill
included, in a closed loop; in a prefill, prompt tokens per second. Ratios are medians of the
ratios within a round. PEFT, llama.cpp and vLLM with LoRA are slow and run once.
"""

import contextlib
import dataclasses
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks.engine_process import EngineProcess, Launch, running
from benchmarks.engine_results import OURS, Results
from benchmarks.engine_scenarios import NUM_ADAPTERS, RANKS, SCENARIOS, Scenario
from benchmarks.options import AsJson, Layers, Output
from benchmarks.peers.driver import Setup
from benchmarks.peers.launch import Peer, PeerMissingError, Prepared, prepare
from benchmarks.report import Machine, Report, publish
from benchmarks.synthetic import write_adapter, write_tinyllama
from inference_service.models.families import read_spec

_ELEMENT_BYTES = 2
_RUN_OFTEN = (Peer.vllm, Peer.transformers)
_WARM_UP_TOKENS = 2


@dataclass(frozen=True)
class Files:
    """A checkpoint and its adapters; what adapters' bytes allow of the base's throughput."""

    root: Path
    model: Path
    adapters: list[Path]

    @property
    def bytes_floor(self) -> float:
        """A step reads the base but for the embedding, of which it needs rows, and all adapters."""
        spec = read_spec(self.model)
        base = (self.model / "model.safetensors").stat().st_size
        base -= spec.vocab_size * spec.hidden_size * _ELEMENT_BYTES
        adapters = sum((a / "adapter_model.safetensors").stat().st_size for a in self.adapters)
        return base / (base + adapters)


@dataclass(frozen=True)
class Stage:
    """Ours and at most one peer in turns."""

    peer: Peer | None
    scenarios: tuple[Scenario, ...]
    rounds: int

    @property
    def num_runs(self) -> int:
        theirs = sum(self.peer in scenario.peers for scenario in self.scenarios)
        return self.rounds * (len(self.scenarios) + theirs)


def main(
    peers: Annotated[str, typer.Option(help="Some of them with commas, or none.")] = "none",
    layers: Layers = 22,
    rounds: int = 3,
    files: Annotated[
        Path | None, typer.Option(help="Where checkpoint and adapters are kept for the next run.")
    ] = None,
    vllm_python: Annotated[
        Path | None, typer.Option(help="Of an environment with vLLM; as installed without it.")
    ] = None,
    llama_cpp_python: Annotated[Path | None, typer.Option(help="The same, of llama.cpp.")] = None,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Runs all scenarios `rounds` times, after a warm-up."""
    pythons = {Peer.vllm: vllm_python, Peer.vllm_lora: vllm_python}
    pythons[Peer.llama_cpp] = llama_cpp_python
    machine = Machine.measure()
    with contextlib.ExitStack() as stack:
        root = files or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        progress = stack.enter_context(Progress(console=Console(stderr=True)))
        written = _write(root, layers, progress)
        try:
            chosen = {
                peer: prepare(peer, written.model, written.adapters, pythons.get(peer))
                for peer in _parse(peers)
            }
        except PeerMissingError as error:
            raise typer.BadParameter(str(error), param_hint="--peers") from error
        results = Comparison(written, chosen, progress).run(_stages(list(chosen), rounds))
    title = f"{layers} layers of TinyLlama's shape, bfloat16, 64 in / 32 out: tokens/s"
    publish(Report(title, machine, results.rows(written.bytes_floor)), as_json, output)


def _parse(peers: str) -> list[Peer]:
    try:
        return [] if peers == "none" else [Peer(name) for name in peers.split(",")]
    except ValueError as error:
        known = ", ".join(Peer)
        raise typer.BadParameter(f"{error}; known: {known}", param_hint="--peers") from error


def _stages(peers: Sequence[Peer], rounds: int) -> list[Stage]:
    """All of ours beside vLLM, or alone; then each other peer's."""
    stages = [Stage(Peer.vllm if Peer.vllm in peers else None, SCENARIOS, rounds)]
    for peer in peers:
        if peer is not Peer.vllm:
            theirs = tuple(scenario for scenario in SCENARIOS if peer in scenario.peers)
            stages.append(Stage(peer, theirs, rounds if peer in _RUN_OFTEN else 1))
    return stages


def _write(root: Path, layers: int, progress: Progress) -> Files:
    """What is not there already."""
    directory = root / f"{layers}-layers"
    model, paths = directory / "model", [directory / f"adapter-{i}" for i in range(NUM_ADAPTERS)]
    task = progress.add_task("checkpoint and adapters", total=1 + NUM_ADAPTERS)
    if not model.exists():
        write_tinyllama(model, layers)
    progress.advance(task)
    for index, path in enumerate(paths):
        if not path.exists():
            rank = RANKS[index % len(RANKS)]
            write_adapter(path, read_spec(model), rank, index, torch.bfloat16)
        progress.advance(task)
    return Files(directory, model, paths)


class Comparison:
    """Runs the stages, ours alive throughout, and collects what they show."""

    def __init__(self, files: Files, peers: dict[Peer, Prepared], progress: Progress) -> None:
        self._files, self._peers, self._progress = files, peers, progress
        self._results = Results()
        self._numbers = iter(range(10**9))

    def run(self, stages: list[Stage]) -> Results:
        launch = Launch("benchmarks.own_engine", Path(sys.executable))
        threads = torch.get_num_threads()
        model, adapters = str(self._files.model), [str(path) for path in self._files.adapters]
        for _ in range(stages[0].rounds):
            with self._started(OURS, launch, Setup(model, [], threads)) as engine:
                self._results.add_start(OURS, engine.start_seconds)
        with self._started(OURS, launch, Setup(model, adapters, threads)) as own:
            _warm_up(own, SCENARIOS, self._numbers, 4)
            for stage in stages:
                self._run_stage(stage, own)
        return self._results

    def _run_stage(self, stage: Stage, own: EngineProcess) -> None:
        with contextlib.ExitStack() as stack:
            engines = {OURS: own}
            if stage.peer is not None:
                prepared, name = self._peers[stage.peer], stage.peer.value
                started = self._started(name, prepared.launch, prepared.setup)
                engines[name] = stack.enter_context(started)
                self._results.add_start(name, engines[name].start_seconds)
                theirs = [scenario for scenario in stage.scenarios if stage.peer in scenario.peers]
                _warm_up(engines[name], theirs, self._numbers, 4 if stage.rounds > 1 else 1)
            task = self._progress.add_task(stage.peer or OURS, total=stage.num_runs)
            for number in range(stage.rounds):
                for scenario in stage.scenarios:
                    for name, engine in engines.items():
                        if name == OURS or stage.peer in scenario.peers:
                            seconds = engine.run(scenario.job(next(self._numbers))).seconds
                            round_name, rate = f"{task} {number}", scenario.num_tokens / seconds
                            self._results.add(name, scenario, round_name, rate)
                            self._progress.advance(task)

    @contextlib.contextmanager
    def _started(self, name: str, launch: Launch, setup: Setup) -> Iterator[EngineProcess]:
        task = self._progress.add_task(f"starting {name}", total=1)
        with running(launch, setup, self._files.root / f"{name}.log") as engine:
            self._progress.advance(task)
            yield engine


def _warm_up(
    engine: EngineProcess, scenarios: Sequence[Scenario], numbers: Iterator[int], requests: int
) -> None:
    """A few tokens of each kind of batch."""
    for scenario in scenarios:
        if scenario.new_tokens > 1:
            rows = scenario.adapters[:requests]
            short = dataclasses.replace(scenario, adapters=rows, new_tokens=_WARM_UP_TOKENS)
            engine.run(short.job(next(numbers)))


if __name__ == "__main__":
    typer.run(main)
