"""Forward passes recorded as CUDA graphs, so that a step costs the host one launch."""

import torch

from inference_service.engine.bucket_runner import Forward, Replay, StepResult
from inference_service.engine.step_tensors import StepTensors
from kernels.layouts import LoraPlan


class CudaGraphs:
    """Records one graph after the other; they share memory, as only one runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._outputs: StepResult | None = None

    def record(self, forward: Forward, tensors: StepTensors, plan: LoraPlan | None) -> Replay:
        """The pass runs once before it is recorded, to compile kernels and set up libraries.

        All graphs write to the first one's outputs: record the largest first.
        """
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            result = forward(tensors, plan)
            if self._outputs is None:
                self._outputs = StepResult(result.logits.clone(), result.hidden.clone())
        current.wait_stream(self._stream)
        outputs = self._outputs
        num_rows = tensors.shape.num_tokens
        assert num_rows <= outputs.hidden.shape[0], "the largest graph is recorded first"
        del result
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        ):
            result = forward(tensors, plan)
            with torch.inference_mode():
                outputs.logits[:num_rows].copy_(result.logits)
                outputs.hidden[:num_rows].copy_(result.hidden)
        del result
        return _CudaGraphReplay(graph, outputs)


class _CudaGraphReplay:
    def __init__(self, graph: torch.cuda.CUDAGraph, outputs: StepResult) -> None:
        self._graph, self._outputs = graph, outputs

    def run(self) -> StepResult:
        self._graph.replay()
        return self._outputs
