"""vLLM's CPU build; LoRA is on only if there are adapters, so that base only is at its best.

python -m benchmarks.peers.vllm_engine      as benchmarks.peers.driver says
"""

from typing import Any

from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

from benchmarks.peers.driver import Job, Setup, serve

_MAX_LORA_RANK = 64


class VllmEngine:
    def __init__(self, setup: Setup) -> None:
        self._adapters = setup.adapters
        lora: dict[str, Any] = {}
        if setup.adapters:
            lora = {
                "enable_lora": True,
                "max_loras": len(setup.adapters),
                "max_lora_rank": _MAX_LORA_RANK,
            }
        self._llm = LLM(
            setup.model,
            skip_tokenizer_init=True,
            dtype="bfloat16",
            max_model_len=setup.max_model_len,
            max_num_seqs=setup.max_num_seqs,
            enable_prefix_caching=False,  # no two prompts begin alike
            **lora,
        )

    def generate(self, job: Job) -> int:
        sampling = SamplingParams(
            temperature=0.0, max_tokens=job.new_tokens, ignore_eos=True, detokenize=False
        )
        choice = {"lora_request": [self._lora(index) for index in job.adapters]}
        outputs = self._llm.generate(
            [{"prompt_token_ids": prompt} for prompt in job.prompts],
            sampling,
            use_tqdm=False,
            **(choice if self._adapters else {}),
        )
        return sum(len(output.outputs[0].token_ids) for output in outputs)

    def _lora(self, index: int | None) -> LoRARequest | None:
        if index is None:
            return None
        return LoRARequest(str(index), index + 1, self._adapters[index])


if __name__ == "__main__":
    serve(VllmEngine)
