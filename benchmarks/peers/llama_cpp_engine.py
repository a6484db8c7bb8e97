"""llama.cpp on files of benchmarks.peers.gguf_files: one request at a time, as each has an adapter.

    python -m benchmarks.peers.llama_cpp_engine      as benchmarks.peers.driver says

`model` and `adapters` are GGUF files. llama.cpp has one set of adapters for a whole batch.
"""

import ctypes
from typing import Any

import llama_cpp
import numpy as np

from benchmarks.peers.driver import Job, Setup, serve


def _forget(level: int, text: bytes, user_data: object) -> None:
    """Its log has a line for each tensor whenever the adapter changes, which would cost it time."""


_ON_LOG = llama_cpp.llama_log_callback(_forget)  # kept here: C calls it as long as it runs


class LlamaCppEngine:
    def __init__(self, setup: Setup) -> None:
        llama_cpp.llama_log_set(_ON_LOG, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        model = llama_cpp.llama_model_load_from_file(
            setup.model.encode(), llama_cpp.llama_model_default_params()
        )
        assert model is not None, setup.model
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = setup.max_model_len
        params.n_threads = params.n_threads_batch = setup.num_threads
        self._context: Any = llama_cpp.llama_init_from_model(model, params)
        self._memory: Any = llama_cpp.llama_get_memory(self._context)
        vocabulary: Any = llama_cpp.llama_model_get_vocab(model)
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(vocabulary)
        self._adapters = [
            llama_cpp.llama_adapter_lora_init(model, path.encode()) for path in setup.adapters
        ]
        assert all(self._adapters), setup.adapters

    def generate(self, job: Job) -> int:
        return sum(
            self._continue(prompt, index, job.new_tokens)
            for prompt, index in zip(job.prompts, job.adapters, strict=True)
        )

    def _continue(self, prompt: list[int], adapter: int | None, new_tokens: int) -> int:
        self._choose(adapter)
        llama_cpp.llama_memory_clear(self._memory, True)
        self._decode(prompt)
        for _ in range(new_tokens - 1):
            self._decode([self._best_token()])
        self._best_token()
        return new_tokens

    def _choose(self, adapter: int | None) -> None:
        chosen = [] if adapter is None else [self._adapters[adapter]]
        array = (llama_cpp.llama_adapter_lora_p_ctypes * len(chosen))(*chosen)
        scales = (ctypes.c_float * len(chosen))(*[1.0] * len(chosen))
        code = llama_cpp.llama_set_adapters_lora(self._context, array, len(chosen), scales)
        assert code == 0, code

    def _decode(self, tokens: list[int]) -> None:
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        batch = llama_cpp.llama_batch_get_one(array, len(tokens))
        code = llama_cpp.llama_decode(self._context, batch)
        assert code == 0, code

    def _best_token(self) -> int:
        logits = llama_cpp.llama_get_logits_ith(self._context, -1)
        return int(np.ctypeslib.as_array(logits, shape=(self._vocab_size,)).argmax())


if __name__ == "__main__":
    serve(LlamaCppEngine)
