"""What a generation is asked with: sampling settings and requests."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from lorikeet.operations.call import StreamCall
from protos import inference_pb2 as pb

_SERVICE = "lorikeet.inference.v1.Inference"

Messages = Sequence[Mapping[str, str]]
"""A conversation: mappings with `role` (system, user, assistant, tool) and `content`."""


class Sampling(TypedDict, total=False):
    """Sampling settings, named as in vLLM; what is left out takes the adapter's default."""

    max_tokens: int
    min_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    stop: str | Sequence[str]
    stop_token_ids: Sequence[int]
    ignore_eos: bool
    include_stop_str_in_output: bool
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float]
    """By token id, in [-100, 100]."""
    logprobs: int
    """0 to 20: the logprob of each token, and so many of the likeliest at its place."""
    prompt_logprobs: int
    """The same for the prompt's tokens from the second on."""
    n: int
    """Completions of the same prompt; see Completion.choices."""


def generate_call(
    prompt: str | Sequence[int],
    adapter: str,
    tenant: str,
    timeout: float | None,
    sampling: Sampling,
) -> StreamCall[pb.GenerateResponse]:
    """A completion of a text, or of token ids."""
    request = pb.GenerateRequest(
        adapter=adapter, tenant=tenant, sampling=_sampling_params(sampling)
    )
    if isinstance(prompt, str):
        request.prompt = prompt
    else:
        request.prompt_token_ids.ids.extend(prompt)
    return StreamCall(f"/{_SERVICE}/Generate", request, pb.GenerateResponse, timeout)


def chat_call(
    messages: Messages,
    adapter: str,
    tenant: str,
    timeout: float | None,
    sampling: Sampling,
) -> StreamCall[pb.GenerateResponse]:
    """The assistant's next turn."""
    request = pb.ChatRequest(
        adapter=adapter,
        tenant=tenant,
        messages=[
            pb.ChatMessage(role=message["role"], content=message["content"]) for message in messages
        ],
        sampling=_sampling_params(sampling),
    )
    return StreamCall(f"/{_SERVICE}/Chat", request, pb.GenerateResponse, timeout)


def _sampling_params(sampling: Sampling) -> pb.SamplingParams:
    settings: dict[str, Any] = {**sampling}
    if "stop" in settings:
        settings["stop"] = _as_list(settings["stop"])
    return pb.SamplingParams(**settings)


def _as_list(stop: str | Iterable[str]) -> list[str]:
    return [stop] if isinstance(stop, str) else list(stop)
