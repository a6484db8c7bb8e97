"""The training loop that the base model and the adapters share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Batch = dict[str, torch.Tensor]

IGNORED_LABEL: Final = -100
_FINAL_SHARE: Final = 0.02
_REPORT_EVERY: Final = 100


@dataclass(frozen=True)
class Schedule:
    """How long to train and how fast: linear warm-up, then a cosine down to almost nothing."""

    steps: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float = 0.01
    max_gradient_norm: float = 1.0

    def share(self, step: int) -> float:
        """The learning rate at ``step`` as a share of its peak."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return _FINAL_SHARE + (1 - _FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * done))


def progress_bar() -> Progress:
    """Make the progress display of a training run."""
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} loss {task.fields[loss]:.4f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )


def train(
    model: torch.nn.Module, batches: Iterator[Batch], schedule: Schedule, description: str
) -> float:
    """Train the parameters that ask for gradients; return the smoothed loss at the end.

    The forward pass runs in bfloat16 (about twice as fast on a CPU that has it); weights, gradients
    and optimiser state stay in float32.
    """
    parameters = [item for item in model.parameters() if item.requires_grad]
    optimiser = torch.optim.AdamW(
        parameters, schedule.learning_rate, betas=(0.9, 0.98), weight_decay=schedule.weight_decay
    )
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, schedule.share)
    model.train()
    smoothed = 0.0
    with progress_bar() as progress:
        bar = progress.add_task(description, total=schedule.steps, loss=0.0)
        for step in range(schedule.steps):
            with torch.autocast("cpu", torch.bfloat16):
                loss: torch.Tensor = model(**next(batches)).loss
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, schedule.max_gradient_norm)
            optimiser.step()
            optimiser.zero_grad()
            rate.step()
            smoothed = loss.item() if step == 0 else 0.95 * smoothed + 0.05 * loss.item()
            progress.update(bar, advance=1, loss=smoothed)
            if (step + 1) % _REPORT_EVERY == 0:
                progress.console.print(f"{description}: step {step + 1}, loss {smoothed:.4f}")
    return smoothed
