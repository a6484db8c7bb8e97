"""A closed loop over an engine: so many requests at once, the next begins when one ends."""

import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from inference_service.engine.engine import Engine
from inference_service.engine.request import (
    Load,
    SamplingOptions,
    StepOutput,
    Submit,
)

_REQUEST_IDS = itertools.count(1)


@dataclass(frozen=True)
class Shape:
    """Of the requests: `concurrency` of them at once."""

    concurrency: int = 16
    prompt_tokens: int = 64
    new_tokens: int = 32


@dataclass(frozen=True)
class Throughput:
    """Of one run: output tokens per second, and the mean number of adapters in its batches."""

    tokens_per_second: float
    mean_adapters: float


def load_all(engine: Engine, paths: Iterable[tuple[str, str]]) -> None:
    """Makes adapters (digest, directory) known, and as many resident as fit."""
    for number, (digest, path) in enumerate(paths):
        engine.handle(Load(number, digest, path))
        while not engine.is_idle:
            engine.step()
            time.sleep(0.001)  # the loader is another thread, and needs the interpreter


def run_closed_loop(engine: Engine, digests: Iterable[str], shape: Shape) -> Throughput:
    """One request per digest ("" for the base model); no two prompts begin alike."""
    waiting = iter(digests)
    running: dict[int, str] = {}
    num_tokens = num_batches = num_adapters = 0
    began = time.perf_counter()
    while True:
        for submit in _next(waiting, shape.concurrency - len(running), shape):
            engine.handle(submit)
            running[submit.request_id] = submit.adapter_digest
        if not running:
            break
        num_batches += 1
        num_adapters += len({digest for digest in running.values() if digest})
        for reply in engine.step():
            for output in reply.outputs if isinstance(reply, StepOutput) else ():
                assert not output.refusal, output
                num_tokens += len(output.token_ids)
                if output.is_last:
                    del running[output.request_id]
    seconds = time.perf_counter() - began
    return Throughput(num_tokens / seconds, num_adapters / num_batches)


def _next(digests: Iterator[str], count: int, shape: Shape) -> Iterator[Submit]:
    sampling = SamplingOptions(temperature=0.0, max_tokens=shape.new_tokens)
    for digest in itertools.islice(digests, count):
        number = next(_REQUEST_IDS)
        prompt = [3 + (number * 7919 + 13 * i) % 30000 for i in range(shape.prompt_tokens)]
        yield Submit(number, prompt, sampling, digest)
