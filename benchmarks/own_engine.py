"""Our engine, driven as its peers are: no gRPC, no front end, nothing else in the process.

python -m benchmarks.own_engine      as benchmarks.peers.driver says
"""

import itertools

from benchmarks.closed_loop import load_all
from benchmarks.peers.driver import Job, Setup, serve
from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.engine.request import SamplingOptions, StepOutput, Submit

_MEMORY_BYTES = 4 << 30  # as much as vLLM is given for its KV cache


class OwnEngine:
    def __init__(self, setup: Setup) -> None:
        self._request_ids = itertools.count(1)
        self._engine = Engine(
            EngineConfig(
                setup.model,
                dtype="bfloat16",
                memory_bytes=_MEMORY_BYTES,
                max_model_len=setup.max_model_len,
                max_num_seqs=setup.max_num_seqs,
                num_threads=setup.num_threads,
            )
        )
        load_all(self._engine, [(_digest(i), path) for i, path in enumerate(setup.adapters)])

    def generate(self, job: Job) -> int:
        sampling = SamplingOptions(temperature=0.0, max_tokens=job.new_tokens)
        for prompt, index in zip(job.prompts, job.adapters, strict=True):
            digest = "" if index is None else _digest(index)
            self._engine.handle(Submit(next(self._request_ids), prompt, sampling, digest))
        num_tokens = 0
        while not self._engine.is_idle:
            for reply in self._engine.step():
                for output in reply.outputs if isinstance(reply, StepOutput) else ():
                    assert not output.refusal, output
                    num_tokens += len(output.token_ids)
        return num_tokens


def _digest(index: int) -> str:
    return f"adapter-{index}"


if __name__ == "__main__":
    serve(OwnEngine)
