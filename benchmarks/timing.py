"""Timing on a GPU: functions recorded as CUDA graphs, replayed in turns, medians of events."""

import statistics
import time
from collections.abc import Callable

import torch

_ROUNDS, _REPLAYS = 25, 8
_ROUNDS_ON_CPU = 3


def seconds_per_call(functions: list[Callable[[], None]], device: torch.device) -> list[float]:
    """The median of each; they take turns, so that what else happens falls on all of them."""
    if device.type == "cpu":
        rounds = [[_host_seconds(call) for call in functions] for _ in range(_ROUNDS_ON_CPU)]
    else:
        replays = [_record(function) for function in functions]
        rounds = [[_event_seconds(replay) for replay in replays] for _ in range(_ROUNDS)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def copy_bandwidth(device: torch.device, num_bytes: int) -> float:
    """Bytes read plus bytes written per second by a large copy within the device's memory."""
    source = torch.randint(0, 255, (num_bytes,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)

    (seconds,) = seconds_per_call([copy], device)
    return 2 * num_bytes / seconds


def _host_seconds(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _record(function: Callable[[], None]) -> torch.cuda.CUDAGraph:
    """Runs once to compile and set up, then records."""
    function()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph


def _event_seconds(graph: torch.cuda.CUDAGraph) -> float:
    began, ended = _event(), _event()
    graph.replay()
    began.record()
    for _ in range(_REPLAYS):
        graph.replay()
    ended.record()
    ended.synchronize()
    milliseconds: float = began.elapsed_time(ended)
    return milliseconds / 1000 / _REPLAYS


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
