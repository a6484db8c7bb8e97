"""Drives an Engine by hand, without threads or processes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from inference_service.engine.engine import Engine
from inference_service.engine.page_copier import Copy
from inference_service.engine.request import (
    Command,
    GetStats,
    Load,
    Reply,
    StepOutput,
    TokenLogprob,
    Unload,
)
from inference_service.engine.self_report import EngineStats


@dataclass
class Result:
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str = ""
    refusal: str = ""
    num_cached: int = field(default=0, compare=False)  # how it was computed, not what
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)


def wait_for(copy: Copy) -> None:
    """Until the pages of a copy have arrived."""
    while not copy.done():
        time.sleep(0.001)


def stats_of(engine: Engine) -> EngineStats:
    """The engine's statistics, once every page has been found to have one owner."""
    (stats,) = engine.handle(GetStats(0))
    assert isinstance(stats, EngineStats)
    used = stats.kv_pages + stats.cached_pages + stats.adapter_pages
    assert stats.free_pages + used == stats.total_pages
    engine.check_integrity()
    return stats


def run_to_end(
    engine: Engine, commands: Sequence[Command], max_steps: int = 100_000
) -> dict[int, Result]:
    """Handles the commands and steps until idle; the outputs by request id."""
    results: dict[int, Result] = {}
    replies = [reply for command in commands for reply in engine.handle(command)]
    for _ in range(max_steps):
        num_steps = engine.num_steps
        replies += engine.step()
        if engine.is_idle:
            break
        if engine.num_steps == num_steps:  # an adapter is loading, on another thread
            time.sleep(0.001)
    else:
        raise AssertionError(f"not idle after {max_steps} steps")
    for reply in replies:
        for output in reply.outputs if isinstance(reply, StepOutput) else ():
            result = results.setdefault(output.request_id, Result())
            assert not result.finish_reason, "output after the last one"
            result.token_ids += output.token_ids
            result.logprobs += output.logprobs
            result.prompt_logprobs += output.prompt_logprobs
            result.finish_reason = output.finish_reason
            result.refusal = output.refusal
            result.num_cached += output.num_cached
    return results


def answer(engine: Engine, call: Load | Unload) -> Reply:
    """The reply to one call of an engine without requests."""
    replies = engine.handle(call)
    while not replies:
        time.sleep(0.001)  # the loader is another thread
        replies = engine.step()
    return replies[0]
