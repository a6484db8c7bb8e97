"""What a generation gives: the events of a stream, and the completions they add up to."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lorikeet.conversation import ToolCall
from lorikeet.rpc.errors import DataLossError
from protos import inference_pb2 as pb


@dataclass(frozen=True)
class Start:
    """The first event: what was resolved, once and for the whole stream."""

    request_id: str
    adapter_version: str
    """tenants/{t}/adapters/{a}/versions/{n}; empty for the base model."""
    digest: str
    base_model: str
    num_prompt_tokens: int
    alias: str = ""
    """The one that was followed to the version; empty for a version by its number."""


@dataclass(frozen=True)
class TokenLogprob:
    """How likely the model itself found a token, and the likeliest tokens at its place."""

    token_id: int
    logprob: float
    rank: int
    """1: none was likelier."""
    top: tuple[tuple[int, float], ...]
    """(token id, logprob), likeliest first; as many as were asked for."""


@dataclass(frozen=True)
class Chunk:
    """Some tokens and the whole characters they complete; `text` may be empty in between."""

    text: str
    token_ids: tuple[int, ...]
    index: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    """One for each of `token_ids`, if asked for."""
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    """The next ones of the prompt, if asked for."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Calls that are complete with this chunk; they are in no `text`."""
    tool_call_error: str = ""
    """Why text of this chunk that began as a call is none."""


@dataclass(frozen=True)
class Usage:
    """Tokens of the prompt, once, and of all completions."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    """Prompt tokens that came from the prefix cache."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One completion of the prompt. `finish_reason` is "stop", "length" or "tool_calls"."""

    index: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    stop_string: str
    logprobs: tuple[TokenLogprob, ...]
    """One for each of `token_ids`, if asked for."""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_errors: tuple[str, ...] = ()
    """Why parts of `text` that began as calls are none."""

    @property
    def message(self) -> dict[str, Any]:
        """The assistant's turn, for the messages of the next request."""
        turn: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.tool_calls:
            turn["tool_calls"] = [call.as_mapping() for call in self.tool_calls]
        return turn


@dataclass(frozen=True, kw_only=True)
class Completion(Choice):
    """A finished generation: the completion of index 0, and what all have in common."""

    others: tuple[Choice, ...]
    """Those of index 1 and up, when n was more than 1."""
    prompt_logprobs: tuple[TokenLogprob, ...]
    """Of the prompt's tokens from the second on, if asked for."""
    usage: Usage
    adapter_version: str
    digest: str
    request_id: str
    alias: str = ""
    """The one that was followed to the version; empty for a version by its number."""

    @property
    def choices(self) -> tuple[Choice, ...]:
        """All completions, by index."""
        return (self, *self.others)


@dataclass
class _Parts:
    """What has come of one completion."""

    texts: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    tool_call_errors: list[str] = field(default_factory=list)


class CompletionAssembler:
    """Puts the events of one stream together; the same for sync and async streams."""

    def __init__(self) -> None:
        self.start: Start | None = None
        self.completion: Completion | None = None
        self._parts: dict[int, _Parts] = {0: _Parts()}
        self._prompt_logprobs: list[TokenLogprob] = []

    def add(self, response: pb.GenerateResponse) -> Chunk | None:
        """Takes in one event; returns it if it is a chunk."""
        event = response.WhichOneof("event")
        if event == "start":
            self.start = _start(response.start)
        elif event == "complete":
            self.completion = self._complete(response.complete)
        elif event == "chunk":
            return self._add_chunk(response.chunk)
        return None

    def finish(self) -> Completion:
        """The completion, at the end of the stream."""
        if self.completion is None:
            raise DataLossError(
                "the stream ended without its completion", reason="STREAM_TRUNCATED"
            )
        return self.completion

    def _add_chunk(self, message: pb.GenerateChunk) -> Chunk:
        chunk = Chunk(
            text=message.text,
            token_ids=tuple(message.token_ids),
            index=message.index,
            logprobs=_logprobs(message.logprobs),
            prompt_logprobs=_logprobs(message.prompt_logprobs),
            tool_calls=tuple(map(ToolCall.from_message, message.tool_calls)),
            tool_call_error=message.tool_call_error,
        )
        parts = self._parts.setdefault(chunk.index, _Parts())
        parts.texts.append(chunk.text)
        parts.token_ids.extend(chunk.token_ids)
        parts.logprobs.extend(chunk.logprobs)
        if chunk.tool_call_error:
            parts.tool_call_errors.append(chunk.tool_call_error)
        self._prompt_logprobs.extend(chunk.prompt_logprobs)
        return chunk

    def _complete(self, complete: pb.GenerateComplete) -> Completion:
        start = self.start or Start("", "", "", "", 0)
        usage = complete.usage
        first = pb.CompletionResult(
            finish_reason=complete.finish_reason,
            stop_string=complete.stop_string,
            tool_calls=complete.tool_calls,
        )
        results = [result for result in complete.results if result.index > 0]
        return Completion(
            **vars(self._choice(first)),
            others=tuple(self._choice(result) for result in results),
            prompt_logprobs=tuple(self._prompt_logprobs),
            usage=Usage(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens),
            adapter_version=start.adapter_version,
            digest=start.digest,
            request_id=start.request_id,
            alias=start.alias,
        )

    def _choice(self, result: pb.CompletionResult) -> Choice:
        parts = self._parts.get(result.index, _Parts())
        reason = pb.FinishReason.Name(result.finish_reason)
        return Choice(
            index=result.index,
            text="".join(parts.texts),
            token_ids=tuple(parts.token_ids),
            finish_reason=reason.removeprefix("FINISH_REASON_").lower(),
            stop_string=result.stop_string,
            logprobs=tuple(parts.logprobs),
            tool_calls=tuple(map(ToolCall.from_message, result.tool_calls)),
            tool_call_errors=tuple(parts.tool_call_errors),
        )


def _start(start: pb.GenerateStart) -> Start:
    return Start(
        request_id=start.request_id,
        adapter_version=start.adapter_version,
        digest=start.digest,
        base_model=start.base_model,
        num_prompt_tokens=start.num_prompt_tokens,
        alias=start.alias,
    )


def _logprobs(messages: Iterable[pb.TokenLogprobs]) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(
            token_id=message.token_id,
            logprob=message.logprob,
            rank=message.rank,
            top=tuple(zip(message.token_ids, message.logprobs, strict=True)),
        )
        for message in messages
    )
