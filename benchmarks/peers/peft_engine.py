"""transformers in bfloat16; with adapters PEFT, which mixes them in one batch by `adapter_names`.

python -m benchmarks.peers.peft_engine      as benchmarks.peers.driver says
"""

from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from benchmarks.peers.driver import Job, Setup, serve

_BASE = "__base__"  # PEFT's name for rows without an adapter


class PeftEngine:
    def __init__(self, setup: Setup) -> None:
        torch.set_num_threads(setup.num_threads)
        model = AutoModelForCausalLM.from_pretrained(
            setup.model, dtype=torch.bfloat16, attn_implementation="sdpa"
        )
        for index, path in enumerate(setup.adapters):
            if index == 0:
                model = PeftModel.from_pretrained(model, path, "0", autocast_adapter_dtype=False)
            else:
                model.load_adapter(path, str(index), autocast_adapter_dtype=False)
        self._model: Any = model.eval()
        self._has_adapters = bool(setup.adapters)

    def generate(self, job: Job) -> int:
        prompts = torch.tensor(job.prompts)  # of one length: nothing to pad
        choice = {"adapter_names": self._names(job)} if self._has_adapters else {}
        with torch.inference_mode():
            tokens = self._model.generate(
                input_ids=prompts,
                attention_mask=torch.ones_like(prompts),
                max_new_tokens=job.new_tokens,
                min_new_tokens=job.new_tokens,
                do_sample=False,
                pad_token_id=0,
                **choice,
            )
        return int(tokens[:, prompts.shape[1] :].numel())

    def _names(self, job: Job) -> list[str]:
        return [_BASE if index is None else str(index) for index in job.adapters]


if __name__ == "__main__":
    serve(PeftEngine)
