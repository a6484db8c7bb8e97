"""The conversation with an engine in a process of its own: a JSON line in, a JSON line out.

Needs the standard library only: it runs in the peers' environments too. The first line in is a
`Setup`, answered when the engine is ready; each later one is a `Job`, answered with a `Result`.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Protocol, TextIO


@dataclass(frozen=True)
class Setup:
    """A checkpoint's directory, and those of adapters in the layout of PEFT."""

    model: str
    adapters: list[str]
    num_threads: int
    max_model_len: int = 2048
    max_num_seqs: int = 16


@dataclass(frozen=True)
class Job:
    """Prompts of one length that are all there at once; `adapters`: indices, None for the base."""

    prompts: list[list[int]]
    adapters: list[int | None]
    new_tokens: int


@dataclass(frozen=True)
class Result:
    """`seconds` from the prompts to the last token."""

    seconds: float
    num_tokens: int


class DrivenEngine(Protocol):
    """What each driver makes of its engine."""

    def generate(self, job: Job) -> int:
        """Greedily continues every prompt by exactly `new_tokens`; how many tokens were made."""
        ...


def serve(start: Callable[[Setup], DrivenEngine]) -> None:
    """Answers until its input ends. What the engine prints goes to the standard error."""
    answers = _own_output()
    engine = start(Setup(**json.loads(sys.stdin.readline())))
    _answer(answers, {"ready": True})
    for line in sys.stdin:
        job = Job(**json.loads(line))
        began = time.perf_counter()
        num_tokens = engine.generate(job)
        _answer(answers, asdict(Result(time.perf_counter() - began, num_tokens)))


def _own_output() -> TextIO:
    """The standard output, with the standard error put in its place."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _answer(answers: TextIO, message: dict[str, object]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()
