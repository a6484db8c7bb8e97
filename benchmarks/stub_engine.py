"""A child engine that computes nothing: a token for every stream in each step, at a given rate.

Only `benchmarks.stub_server` starts it. Requests say what it does: the first token of a prompt is
the steps per second, the second the number of streams that begin together. When these have ended,
`round-{n}.json` in the model's directory says when each step was sent.
"""

import os
import sys
import time
from pathlib import Path

import msgspec
import psutil
from msgspec import structs

from inference_service.engine.__main__ import Channel
from inference_service.engine.config import EngineConfig
from inference_service.engine.request import (
    Abort,
    DropPrefixes,
    GetStats,
    PrefixesDropped,
    Shutdown,
    StepOutput,
    Submit,
    TokenOutput,
)
from inference_service.engine.self_report import EngineInfo, EngineStats
from inference_service.engine.step_counts import StepCounts

_INFO = EngineInfo(
    device="none",
    dtype="none",
    max_model_len=100_000,
    max_lora_rank=1,
    max_num_seqs=10_000,
    max_num_batched_tokens=10_000,
    vocab_size=600,
    base_weight_bytes=0,
    block_tokens=16,
)
_STATS = EngineStats(  # the front end asks whether the engine makes progress
    call_id=0,
    page_bytes=1,
    total_pages=1,
    free_pages=1,
    kv_pages=0,
    adapter_pages=0,
    num_running=0,
    num_waiting=0,
    num_steps=0,
    steps=StepCounts().reading(),
    adapters=[],
)
_FIRST_TOKEN, _NUM_TOKENS = 300, 200  # words and parts of words
_IDLE_SECONDS = 0.5


class Round(msgspec.Struct, frozen=True):
    """The monotonic time of each step, and the processor time the front end had used by then."""

    times: list[float]
    processor_seconds: float


class StubEngine:
    """One round after another, each of streams that begin and end together."""

    def __init__(self, channel: Channel, directory: Path) -> None:
        self._channel = channel
        self._directory = directory
        self._num_rounds = 0
        self._is_ended = False
        self._streams: dict[int, Submit] = {}

    def run(self) -> None:
        """Until the parent says so, or is gone."""
        self._channel.send(_INFO)
        while not self._is_ended:
            self._take(_IDLE_SECONDS)
            waiting = list(self._streams.values())
            if waiting and len(waiting) == waiting[0].prompt_token_ids[1]:
                done = self._round(waiting[0])
                self._num_rounds += 1
                path = self._directory / f"round-{self._num_rounds}.json"
                path.write_bytes(msgspec.json.encode(done))

    def _round(self, first: Submit) -> Round:
        processor_seconds = processor_seconds_of(os.getppid())
        interval, num_steps = 1 / first.prompt_token_ids[0], first.sampling.max_tokens
        times: list[float] = []
        due = time.monotonic()
        for step in range(num_steps):
            due += interval
            time.sleep(max(0.0, due - time.monotonic()))
            token_id = _FIRST_TOKEN + step % _NUM_TOKENS
            reason = "length" if step + 1 == num_steps else ""
            outputs = [TokenOutput(stream, [token_id], reason) for stream in self._streams]
            times.append(time.monotonic())
            self._channel.send(StepOutput(outputs))
        self._streams.clear()
        return Round(times, processor_seconds)

    def _take(self, timeout: float) -> None:
        while (command := self._channel.receive(timeout)) is not None:
            timeout = 0.0
            match command:
                case Submit(request_id):
                    self._streams[request_id] = command
                case Abort(request_id):
                    self._streams.pop(request_id, None)
                case Shutdown():
                    self._is_ended = True
                case DropPrefixes(call_id):
                    self._channel.send(PrefixesDropped(call_id, 0))
                case GetStats(call_id):
                    self._channel.send(structs.replace(_STATS, call_id=call_id))


def processor_seconds_of(process_id: int) -> float:
    """Of all threads of a process, in user and kernel mode."""
    times = psutil.Process(process_id).cpu_times()
    return float(times.user + times.system)


def main() -> None:
    endpoint, parent, config = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    other_cores = set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0)
    os.sched_setaffinity(0, other_cores or {0})  # the front end keeps the one it was given
    directory = Path(msgspec.json.decode(config, type=EngineConfig).model_path)
    StubEngine(Channel(endpoint, parent), directory).run()


if __name__ == "__main__":
    main()
