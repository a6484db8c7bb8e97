"""Milliseconds to sample one step's tokens, by setting, over random logits.

    python -m benchmarks.sampling [--rows N] [--vocabulary N] [--device cuda]

Settings alternate, so that what else the machine does falls on all of them; medians.
"""

import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from inference_service.engine.logprobs import token_logprobs
from inference_service.engine.request import SamplingOptions, Submit
from inference_service.engine.sampler import sample
from inference_service.engine.sequence import Sequence

_SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "greedy, penalties": {"temperature": 0.0, "repetition_penalty": 1.1, "presence_penalty": 0.5},
    "temperature": {},
    "min_p 0.05": {"min_p": 0.05},
    "top_k 50": {"top_k": 50},
    "top_p 0.9": {"top_p": 0.9},
    "top_k 50, top_p 0.9": {"top_k": 50, "top_p": 0.9},
}
_PROMPT_TOKENS = 500
_OUTPUT_TOKENS = 100
_ROUNDS = 15


def main(
    rows: Annotated[int, typer.Option(help="Sequences in the step.")] = 32,
    vocabulary: Annotated[int, typer.Option(help="Tokens there are.")] = 32_000,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Prints one line per setting."""
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(rows, vocabulary, generator=generator) * 3).to(device)
    runs = {name: _sampling(logits, options) for name, options in _SETTINGS.items()}
    token_ids = torch.zeros(rows, dtype=torch.int64, device=device)
    runs["logprobs, 5 likeliest"] = lambda: token_logprobs(logits, token_ids, [5] * rows)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(_ROUNDS):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    table = Table("setting", "ms", title=f"{rows} rows of {vocabulary} tokens on {device}")
    for name, seconds in times.items():
        table.add_row(name, f"{1000 * statistics.median(seconds):.1f}")
    Console().print(table)


def _sampling(logits: torch.Tensor, options: dict[str, Any]) -> Callable[[], object]:
    sequences = [_sequence(seed, options) for seed in range(len(logits))]
    return lambda: sample(logits.clone(), sequences).tolist()


def _sequence(seed: int, options: dict[str, Any]) -> Sequence:
    settings = SamplingOptions(seed=seed, max_tokens=1000, **options)
    sequence = Sequence.from_submit(Submit(seed, list(range(_PROMPT_TOKENS)), settings))
    for number in range(_OUTPUT_TOKENS):
        sequence.append(7 * number)
    return sequence


if __name__ == "__main__":
    typer.run(main)
