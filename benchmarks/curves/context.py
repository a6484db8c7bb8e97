"""Contexts of 128 to 8,192 tokens: prompts prefilled alone, then a decode step of all of them."""

import statistics
import time
from functools import partial

from benchmarks.curves.curve import Curve, beside_floor
from benchmarks.curves.decoding import Batch, medians, prompt, rounds
from benchmarks.curves.setting import Setting
from inference_service.engine.engine import Engine
from inference_service.engine.request import SamplingOptions, Submit

_CONTEXTS = (128, 512, 2048, 4096, 8192)
_STEP_TOKENS = 2048  # the engine's default


def measure(setting: Setting) -> list[Curve]:
    engine = setting.engine(max_model_len=max(_CONTEXTS) + 512)
    prefill = _prefill(engine, setting)
    decode = medians(
        {
            float(context): partial(_batch(setting, context).seconds_per_step, engine)
            for context in _CONTEXTS
        },
        setting,
    )
    engine.close()
    return [
        Curve(
            "context-prefill",
            "Prefill of a prompt, base model",
            "tokens",
            "ms",
            beside_floor(prefill, {x: _prefill_floor(setting, int(x)) for x in prefill}),
            "floor",
        ),
        Curve(
            "context-decode",
            f"A decode step of {setting.rounds} sequences, base model",
            "tokens of context",
            "ms",
            beside_floor(decode, {x: _decode_floor(setting, int(x)) for x in decode}),
            "floor",
        ),
    ]


def _prefill(engine: Engine, setting: Setting) -> dict[float, float]:
    """Seconds until the first token, a fresh prompt each round."""
    seconds: dict[float, list[float]] = {float(context): [] for context in _CONTEXTS}
    sampling = SamplingOptions(temperature=0.0, max_tokens=1)
    for number in rounds(setting):
        for context in _CONTEXTS if number else _CONTEXTS[:1]:
            began = time.perf_counter()
            tokens = prompt(context + number - 1, context)
            engine.handle(Submit(number, tokens, sampling))
            while not engine.is_idle:
                engine.step()
            if number:
                seconds[context].append(time.perf_counter() - began)
    return {context: statistics.median(figures) for context, figures in seconds.items()}


def _prefill_floor(setting: Setting, num_tokens: int) -> float:
    work, step = setting.work, _STEP_TOKENS
    chunks = [min(step, num_tokens - start) for start in range(0, num_tokens, step)]
    parts = [part for chunk in chunks for part in work.base(chunk, 0)]
    return setting.floor.seconds(*parts, *work.base(0, 1), work.prefill_attention(num_tokens))


def _batch(setting: Setting, context: int) -> Batch:
    """Of the prompts that were prefilled."""
    return Batch([""] * setting.rounds, context, first=context)


def _decode_floor(setting: Setting, context: int) -> float:
    work, num = setting.work, setting.rounds
    return setting.floor.seconds(*work.base(num, num), work.decode_attention(num, context))
