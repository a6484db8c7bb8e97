"""Steps that only decode, padded to a few sizes: each is prepared once and replayed."""

from collections.abc import Callable
from collections.abc import Sequence as Series
from dataclasses import dataclass
from typing import Protocol

import torch

from inference_service.engine.lora_batch import make_static_plan
from inference_service.engine.lora_tables import LoraTables
from inference_service.engine.step_input import StepInput
from inference_service.engine.step_tensors import StepShape, StepTensors
from kernels.layouts import LoraPlan


@dataclass(frozen=True)
class StepResult:
    """`logits` [S, vocab] float32: one row per input that samples, in their order. `hidden`
    [T, hidden size]: every token's. Both until the next step."""

    logits: torch.Tensor
    hidden: torch.Tensor


Forward = Callable[[StepTensors, LoraPlan | None], StepResult]


class Replay(Protocol):
    """A forward pass over tensors that keep their places."""

    def run(self) -> StepResult:
        """The pass over what is in the tensors now."""


# Prepares a pass over tensors that hold nothing but padding.
Prepare = Callable[[Forward, StepTensors, LoraPlan | None], Replay]


class CallReplay:
    """Just calls."""

    def __init__(self, forward: Forward, tensors: StepTensors, plan: LoraPlan | None) -> None:
        self._forward, self._tensors, self._plan = forward, tensors, plan

    def run(self) -> StepResult:
        return self._forward(self._tensors, self._plan)


@dataclass
class _Bucket:
    tensors: StepTensors
    plan: LoraPlan | None
    replay: Replay
    filled_with: LoraPlan | None = None

    def fill_plan(self, plan: LoraPlan) -> None:
        """Takes over the work of a plan; the planner keeps plans while only tokens change."""
        if self.filled_with is plan:
            return
        self.filled_with = plan
        assert self.plan is not None
        assert self.plan.work is not None
        for work in self.plan.work:
            work.fill(plan)


class BucketRunner:
    """A bucket is a number of rows, with adapters or without; it takes any step of fewer rows."""

    def __init__(
        self,
        forward: Forward,
        prepare: Prepare,
        tables: LoraTables,
        max_num_seqs: int,
        table_width: int,
        takes_adapters: bool,
    ) -> None:
        """`table_width`: the most pages a sequence may have. `takes_adapters`: whether `forward`
        reads a plan's work, and not its tiles, which a static plan has not."""
        self._forward, self._prepare, self._tables = forward, prepare, tables
        self._table_width, self._takes_adapters = table_width, takes_adapters
        self._sizes = bucket_sizes(max_num_seqs)
        self._buckets: dict[tuple[int, bool], _Bucket] = {}

    def prepare_all(self) -> None:
        """Prepares every bucket now, rather than when a step first needs it; the largest first."""
        for size in reversed(self._sizes):
            for with_adapters in (True, False) if self._takes_adapters else (False,):
                self._bucket(size, with_adapters)

    def can_run(self, inputs: Series[StepInput], plan: LoraPlan | None) -> bool:
        if len(inputs) > self._sizes[-1] or (plan is not None and not self._takes_adapters):
            return False
        return all(step.num_tokens == 1 and step.samples for step in inputs)

    def run(
        self,
        inputs: Series[StepInput],
        plan: LoraPlan | None,
        sampled: torch.Tensor | None = None,
    ) -> StepResult:
        """Results are as without padding, and overwritten by the next run. `sampled`: as in
        ModelRunner.run."""
        num_rows = len(inputs)
        size = next(size for size in self._sizes if size >= num_rows)
        bucket = self._bucket(size, plan is not None)
        bucket.tensors.fill(inputs)
        if sampled is not None:
            bucket.tensors.put_sampled(sampled)
        if plan is not None:
            bucket.fill_plan(plan)
        result = bucket.replay.run()
        return StepResult(result.logits[:num_rows], result.hidden[:num_rows])

    def _bucket(self, size: int, with_adapters: bool) -> _Bucket:
        key = (size, with_adapters)
        if key not in self._buckets:
            shape = StepShape(size, size, self._table_width)
            tensors = StepTensors.padding(shape, self._tables.device)
            plan = make_static_plan(self._tables, size) if with_adapters else None
            self._buckets[key] = _Bucket(tensors, plan, self._prepare(self._forward, tensors, plan))
        return self._buckets[key]


def bucket_sizes(max_num_seqs: int) -> list[int]:
    """1, 2, 4, then multiples of 8; the last is `max_num_seqs`."""
    sizes = [1, 2, 4, *range(8, max_num_seqs, 8)]
    return [size for size in sizes if size < max_num_seqs] + [max_num_seqs]
