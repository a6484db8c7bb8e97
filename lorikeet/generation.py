"""What a generation is made of: sampling, requests, and the events of a stream put together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from lorikeet.operations.call import StreamCall
from lorikeet.rpc.errors import DataLossError
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


@dataclass(frozen=True)
class Start:
    """The first event: what was resolved, once and for the whole stream."""

    request_id: str
    adapter_version: str
    """tenants/{t}/adapters/{a}/versions/{n}; empty for the base model."""
    digest: str
    base_model: str
    num_prompt_tokens: int


@dataclass(frozen=True)
class Chunk:
    """Some tokens and the whole characters they complete; `text` may be empty in between."""

    text: str
    token_ids: tuple[int, ...]
    index: int = 0


@dataclass(frozen=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    """Prompt tokens that came from the prefix cache."""


@dataclass(frozen=True)
class Completion:
    """A finished generation. `finish_reason` is "stop", "length" or "tool_calls"."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    stop_string: str
    usage: Usage
    adapter_version: str
    digest: str
    request_id: str


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


class CompletionAssembler:
    """Puts the events of one stream together; the same for sync and async streams."""

    def __init__(self) -> None:
        self.start: Start | None = None
        self.completion: Completion | None = None
        self._texts: list[str] = []
        self._token_ids: list[int] = []

    def add(self, response: pb.GenerateResponse) -> Chunk | None:
        """Takes in one event; returns it if it is a chunk."""
        event = response.WhichOneof("event")
        if event == "start":
            self.start = _start(response.start)
        elif event == "complete":
            self.completion = self._complete(response.complete)
        elif event == "chunk":
            chunk = response.chunk
            self._texts.append(chunk.text)
            self._token_ids.extend(chunk.token_ids)
            return Chunk(chunk.text, tuple(chunk.token_ids), chunk.index)
        return None

    def finish(self) -> Completion:
        """The completion, at the end of the stream."""
        if self.completion is None:
            raise DataLossError(
                "the stream ended without its completion", reason="STREAM_TRUNCATED"
            )
        return self.completion

    def _complete(self, complete: pb.GenerateComplete) -> Completion:
        start = self.start or Start("", "", "", "", 0)
        reason = pb.FinishReason.Name(complete.finish_reason)
        return Completion(
            text="".join(self._texts),
            token_ids=tuple(self._token_ids),
            finish_reason=reason.removeprefix("FINISH_REASON_").lower(),
            stop_string=complete.stop_string,
            usage=Usage(
                complete.usage.prompt_tokens,
                complete.usage.completion_tokens,
                complete.usage.cached_tokens,
            ),
            adapter_version=start.adapter_version,
            digest=start.digest,
            request_id=start.request_id,
        )


def _start(start: pb.GenerateStart) -> Start:
    return Start(
        request_id=start.request_id,
        adapter_version=start.adapter_version,
        digest=start.digest,
        base_model=start.base_model,
        num_prompt_tokens=start.num_prompt_tokens,
    )


def _sampling_params(sampling: Sampling) -> pb.SamplingParams:
    settings: dict[str, Any] = {**sampling}
    if "stop" in settings:
        settings["stop"] = _as_list(settings["stop"])
    return pb.SamplingParams(**settings)


def _as_list(stop: str | Iterable[str]) -> list[str]:
    return [stop] if isinstance(stop, str) else list(stop)
