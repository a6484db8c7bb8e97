"""What a request must be for the engine to run it, whoever sent it."""

import math

from inference_service.engine.readiness import Refusal
from inference_service.engine.request import SamplingOptions, Submit

_MAX_TOKEN_COUNT = 2**31 - 1


def why_invalid(submit: Submit, max_model_len: int, vocab_size: int) -> Refusal | None:
    """The front end checks all this for its callers; a batch must survive it going wrong."""
    problem = _prompt_problem(submit, max_model_len, vocab_size) or _share_problem(submit)
    problem = problem or _sampling_problem(submit.sampling, vocab_size)
    return Refusal("INVALID_REQUEST", problem) if problem else None


def _prompt_problem(submit: Submit, max_model_len: int, vocab_size: int) -> str | None:
    num_prompt, max_tokens = len(submit.prompt_token_ids), submit.sampling.max_tokens
    if num_prompt == 0:
        return "the prompt has no tokens"
    if not all(0 <= token_id < vocab_size for token_id in submit.prompt_token_ids):
        return f"the prompt has token ids outside [0, {vocab_size})"
    if max_tokens < 1:
        return f"max_tokens is {max_tokens}: at least 1 is needed"
    if num_prompt + max_tokens > max_model_len:
        return f"{num_prompt} prompt tokens and max_tokens {max_tokens} exceed {max_model_len}"
    return None


def _share_problem(submit: Submit) -> str | None:
    if not 0 < submit.weight < math.inf:
        return f"weight {submit.weight} is not a positive number"
    return None


def _sampling_problem(sampling: SamplingOptions, vocab_size: int) -> str | None:
    if not 0 <= sampling.temperature < math.inf:
        return f"temperature {sampling.temperature} is negative or not finite"
    if not 0 < sampling.top_p <= 1:
        return f"top_p {sampling.top_p} is not in (0, 1]"
    if not 0 <= sampling.top_k <= _MAX_TOKEN_COUNT:
        return f"top_k {sampling.top_k} is negative or too large"
    if not 0 <= sampling.seed < 2**64:
        return f"seed {sampling.seed} is not an unsigned 64-bit number"
    if not 0 <= sampling.min_tokens <= sampling.max_tokens:
        return f"min_tokens {sampling.min_tokens} is not in [0, max_tokens]"
    if not all(0 <= token_id < vocab_size for token_id in sampling.stop_token_ids):
        return f"stop_token_ids has ids outside [0, {vocab_size})"
    return _edit_problem(sampling, vocab_size) or _logprobs_problem(sampling, vocab_size)


def _edit_problem(sampling: SamplingOptions, vocab_size: int) -> str | None:
    if not 0 <= sampling.min_p <= 1:
        return f"min_p {sampling.min_p} is not in [0, 1]"
    if not 0 < sampling.repetition_penalty < math.inf:
        return f"repetition_penalty {sampling.repetition_penalty} is not a positive number"
    for name in ("presence_penalty", "frequency_penalty"):
        if not math.isfinite(value := getattr(sampling, name)):
            return f"{name} {value} is not finite"
    if not all(0 <= token_id < vocab_size for token_id in sampling.logit_bias):
        return f"logit_bias has ids outside [0, {vocab_size})"
    if not all(map(math.isfinite, sampling.logit_bias.values())):
        return "logit_bias has a bias that is not finite"
    return None


def _logprobs_problem(sampling: SamplingOptions, vocab_size: int) -> str | None:
    for name in ("logprobs", "prompt_logprobs"):
        value = getattr(sampling, name)
        if value is not None and not 0 <= value <= vocab_size:
            return f"{name} {value} is not in [0, {vocab_size}]"
    return None
