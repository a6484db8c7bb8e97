"""What a generation is asked with: sampling settings and requests."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from lorikeet.conversation import Messages, Tools, message_of, tool_of
from lorikeet.operations.call import StreamCall
from protos import inference_pb2 as pb

_SERVICE = "lorikeet.inference.v1.Inference"


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


class Request(TypedDict, total=False):
    """Whom a request is for, and how it is treated."""

    tenant: str
    timeout: float | None
    """Seconds; then it ends with DeadlineExceededError wherever it is. None: the server's."""
    priority: int
    """In [-1000, 1000]: of a tenant's waiting requests the lowest goes first."""


class Asked(Request, Sampling, total=False):
    """All that Generate can be asked with, besides prompt and adapter."""


class AskedInChat(Asked, total=False):
    """The same for Chat, which has tools."""

    tools: Tools
    tool_choice: str
    """"auto", the default where there are tools, or "none"."""


_NO_SAMPLING = AskedInChat.__annotations__.keys() - Sampling.__annotations__.keys()


def generate_call(
    prompt: str | Sequence[int], adapter: str, asked: Asked
) -> StreamCall[pb.GenerateResponse]:
    """A completion of a text, or of token ids."""
    fields = _fields(asked)
    if isinstance(prompt, str):
        request = pb.GenerateRequest(adapter=adapter, prompt=prompt, **fields)
    else:
        token_ids = pb.TokenIds(ids=prompt)
        request = pb.GenerateRequest(adapter=adapter, prompt_token_ids=token_ids, **fields)
    return StreamCall(f"/{_SERVICE}/Generate", request, pb.GenerateResponse, asked.get("timeout"))


def chat_call(
    messages: Messages, adapter: str, asked: AskedInChat
) -> StreamCall[pb.GenerateResponse]:
    """The assistant's next turn."""
    request = pb.ChatRequest(
        adapter=adapter,
        messages=[message_of(message) for message in messages],
        tools=[tool_of(tool) for tool in asked.get("tools", ())],
        tool_choice=asked.get("tool_choice", ""),
        **_fields(asked),
    )
    return StreamCall(f"/{_SERVICE}/Chat", request, pb.GenerateResponse, asked.get("timeout"))


def _fields(asked: Asked) -> dict[str, Any]:
    """What Generate and Chat have in common; ValueError for what neither has."""
    settings: dict[str, Any] = {
        name: value for name, value in asked.items() if name not in _NO_SAMPLING
    }
    if "stop" in settings:
        settings["stop"] = _as_list(asked["stop"])
    return {
        "tenant": asked.get("tenant", ""),
        "priority": asked.get("priority", 0),
        "sampling": pb.SamplingParams(**settings),
    }


def _as_list(stop: str | Iterable[str]) -> list[str]:
    return [stop] if isinstance(stop, str) else list(stop)
