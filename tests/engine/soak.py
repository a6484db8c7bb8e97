"""Everything at once against every request alone: `python -m tests.engine.soak --requests 10000`.

Many adapters of random ranks, several tenants, room for four adapters; adapters are loaded,
unloaded and replaced by new versions while others decode; prompts begin alike, are cut into chunks,
and are preempted. Greedy in float32, each request must answer what it answers alone in an engine
with room.
"""

import random
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import psutil
import typer
from rich.console import Console
from rich.progress import track

from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.engine.request import (
    Abort,
    Load,
    Loaded,
    Refused,
    Reply,
    StepOutput,
    Submit,
    Unload,
    Unloaded,
)
from tests.checkpoints import write_checkpoint
from tests.engine.driver import run_to_end, stats_of
from tests.engine.soak_load import Adapter, Adapters, draw_request

MAX_OPEN = 40
MAX_NUM_BATCHED_TOKENS = 48  # longer prompts are cut into chunks


@dataclass
class Report:
    """What the mixed run was, and how it compared."""

    num_requests: int
    num_compared: int = 0
    mismatches: list[int] = field(default_factory=list)
    num_steps: int = 0
    num_chunked: int = 0
    num_preemptions: int = 0
    num_prefix_hits: int = 0
    num_loads: int = 0
    num_evictions: int = 0
    num_replaced: int = 0
    num_unloads_refused: int = 0
    early_rss: int = 0
    late_rss: int = 0


class Soak:
    """The mixed engine under random traffic; keeps every submit and what came of it."""

    def __init__(
        self,
        model_path: Path,
        root: Path,
        num_requests: int,
        num_adapters: int,
        overlap: Literal["off", "on"],
    ) -> None:
        self._choose = random.Random(7)
        self.adapters = Adapters(root, model_path, num_adapters, self._choose)
        self.report = Report(num_requests)
        self.submits: dict[int, Submit] = {}
        self.answers: dict[int, list[int]] = {}
        self._open: set[int] = set()
        self._to_unload: set[str] = set()
        self._calls = 10**9
        self._process = psutil.Process()
        roomy = EngineConfig(str(model_path), dtype="float32", memory_bytes=64 << 20)
        self.solo_engine = Engine(
            msgspec.structs.replace(roomy, prefix_caching=False, num_threads=1)
        )
        page_bytes = stats_of(self.solo_engine).page_bytes
        self.engine = Engine(
            msgspec.structs.replace(
                roomy,
                memory_bytes=240 * page_bytes,
                host_memory_bytes=4 << 20,
                max_loras=4,
                max_num_seqs=16,
                max_num_batched_tokens=MAX_NUM_BATCHED_TOKENS,
                num_threads=1,
                overlap=overlap,
            )
        )
        for adapter in self.adapters.current:
            self._load(adapter)

    def run(self, num_requests: int) -> None:
        """Submits and steps until every request has ended; invariants hold after every step."""
        for number in track(range(num_requests), "mixed", disable=num_requests < 1000):
            while len(self._open) >= MAX_OPEN:
                self._step()
            self._submit(number)
            if self._choose.random() < 0.02:
                self._replace_one()
            if self._choose.random() < 0.01:
                self._abort_one()
            if number == num_requests // 5:
                self.report.early_rss = self._process.memory_info().rss
        while not self.engine.is_idle:
            self._step()
        self.report.late_rss = self._process.memory_info().rss
        stats = stats_of(self.engine)
        assert stats.kv_pages == 0, "pages were leaked"
        self.report.num_steps = stats.num_steps
        self.report.num_preemptions = stats.num_preemptions
        self.report.num_prefix_hits = stats.num_prefix_hits
        self.report.num_loads = stats.num_adapter_loads
        self.report.num_evictions = stats.num_adapter_evictions

    def compare(self) -> None:
        """Runs each answered request alone."""
        for digest, path in self.adapters.paths.items():
            run_to_end(self.solo_engine, [Load(0, digest, str(path))])
        alone: dict[tuple[str, tuple[int, ...], int], list[int]] = {}
        items = self.answers.items()
        for request_id, answer in track(items, "alone", disable=len(items) < 1000):
            submit = self.submits[request_id]
            key = (submit.adapter_digest, tuple(submit.prompt_token_ids), len(answer))
            if key not in alone:
                alone[key] = run_to_end(self.solo_engine, [submit])[request_id].token_ids
            self.report.num_compared += 1
            if alone[key] != answer:
                self.report.mismatches.append(request_id)

    def _submit(self, number: int) -> None:
        submit = draw_request(number, self.adapters, self._choose)
        self.submits[number] = submit
        self._open.add(number)
        self.report.num_chunked += len(submit.prompt_token_ids) > MAX_NUM_BATCHED_TOKENS
        self.answers[number] = []
        self._take(self.engine.handle(submit))

    def _replace_one(self) -> None:
        """A new version takes over; the old one is unloaded when its requests have ended."""
        old, new = self.adapters.replace(self._choose.randrange(len(self.adapters.current)))
        self._load(new)
        self._to_unload.add(old.digest)
        self.report.num_replaced += 1

    def _abort_one(self) -> None:
        request_id = self._choose.choice(sorted(self._open))
        self.engine.handle(Abort(request_id))
        self._open.discard(request_id)
        del self.answers[request_id]

    def _load(self, adapter: Adapter) -> None:
        self._calls += 1
        self._take(self.engine.handle(Load(self._calls, adapter.digest, str(adapter.path))))

    def _unload(self) -> None:
        for digest in tuple(self._to_unload):
            (reply,) = self.engine.handle(Unload(0, digest))
            if isinstance(reply, Unloaded):
                self._to_unload.discard(digest)
            else:
                assert isinstance(reply, Refused)
                assert reply.reason == "ADAPTER_IN_USE", reply
                self.report.num_unloads_refused += 1

    def _step(self) -> None:
        num_steps = self.engine.num_steps
        self._take(self.engine.step())
        self.engine.check_integrity()
        self._unload()
        if self.engine.num_steps == num_steps:
            time.sleep(0.0005)  # an adapter is loading, on another thread

    def _take(self, replies: list[Reply]) -> None:
        for reply in replies:
            if isinstance(reply, Refused):
                raise AssertionError(reply)
            if isinstance(reply, StepOutput):
                for output in reply.outputs:
                    assert not output.refusal, output
                    if output.request_id in self._open:
                        self.answers[output.request_id] += output.token_ids
                    if output.is_last:
                        self._open.discard(output.request_id)
            else:
                assert isinstance(reply, Loaded)


def soak(
    root: Path,
    num_requests: int,
    num_adapters: int = 64,
    overlap: Literal["off", "on"] = "off",
) -> Report:
    """Writes a random model and adapters below `root` and compares."""
    model_path = write_checkpoint(root / "model")
    run = Soak(model_path, root / "adapters", num_requests, num_adapters, overlap)
    run.run(num_requests)
    run.compare()
    run.engine.close()
    run.solo_engine.close()
    return run.report


def main(requests: int = 10_000, adapters: int = 64, overlap: bool = False) -> None:
    """Prints what happened; fails when an answer differs."""
    with tempfile.TemporaryDirectory() as root:
        report = soak(Path(root), requests, adapters, "on" if overlap else "off")
    Console().print(report)
    if report.mismatches:
        raise SystemExit(f"{len(report.mismatches)} answers differ from those alone")


if __name__ == "__main__":
    typer.run(main)
