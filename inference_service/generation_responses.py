"""What a generation says to its caller: start, chunks, complete."""

from collections.abc import Iterator, Sequence
from typing import Final

from inference_service.completion import Completion, CompletionPiece
from inference_service.engine.request import TokenLogprob
from inference_service.tools import call as tools
from protos.inference_pb2 import (
    FINISH_REASON_LENGTH,
    FINISH_REASON_STOP,
    FINISH_REASON_TOOL_CALLS,
    CompletionResult,
    GenerateChunk,
    GenerateComplete,
    GenerateResponse,
    TokenLogprobs,
    ToolCall,
    Usage,
)

_FINISH_REASONS: Final = {
    "stop": FINISH_REASON_STOP,
    "length": FINISH_REASON_LENGTH,
    "tool_calls": FINISH_REASON_TOOL_CALLS,
}
# With 20 alternatives each, about 80 KiB: far below gRPC's limit of 4 MiB for a message.
_MAX_PROMPT_LOGPROBS: Final = 512


def chunk_responses(index: int, piece: CompletionPiece) -> Iterator[GenerateResponse]:
    """One piece of the completion `index`; one message, or more for the logprobs of a long prompt.

    All of the prompt's come before or with the first token.
    """
    of_prompt = piece.prompt_logprobs
    while len(of_prompt) > _MAX_PROMPT_LOGPROBS:
        first, of_prompt = of_prompt[:_MAX_PROMPT_LOGPROBS], of_prompt[_MAX_PROMPT_LOGPROBS:]
        chunk = GenerateChunk(index=index, prompt_logprobs=[_token_logprobs(x) for x in first])
        yield GenerateResponse(chunk=chunk)
    yield GenerateResponse(
        chunk=GenerateChunk(
            token_ids=piece.token_ids,
            text=piece.text,
            index=index,
            logprobs=[_token_logprobs(each) for each in piece.logprobs],
            prompt_logprobs=[_token_logprobs(each) for each in of_prompt],
            tool_calls=_tool_calls(piece.tool_calls),
            tool_call_error=piece.tool_call_error,
        )
    )


def complete_response(
    num_prompt_tokens: int, completions: Sequence[Completion]
) -> GenerateResponse:
    """The end of a stream all of whose completions have ended."""
    first = completions[0]
    return GenerateResponse(
        complete=GenerateComplete(
            finish_reason=_FINISH_REASONS[first.finish_reason],
            stop_string=first.stop_string,
            tool_calls=_tool_calls(first.tool_calls),
            usage=Usage(
                prompt_tokens=num_prompt_tokens,
                completion_tokens=sum(each.num_tokens for each in completions),
                cached_tokens=first.num_cached,
            ),
            results=[
                CompletionResult(
                    index=index,
                    finish_reason=_FINISH_REASONS[each.finish_reason],
                    stop_string=each.stop_string,
                    completion_tokens=each.num_tokens,
                    tool_calls=_tool_calls(each.tool_calls),
                )
                for index, each in enumerate(completions)
            ],
        )
    )


def _tool_calls(calls: Sequence[tools.ToolCall]) -> list[ToolCall]:
    return [ToolCall(id=call.id, name=call.name, arguments=call.arguments) for call in calls]


def _token_logprobs(found: TokenLogprob) -> TokenLogprobs:
    return TokenLogprobs(
        token_id=found.token_id,
        logprob=found.logprob,
        rank=found.rank,
        token_ids=found.top_ids,
        logprobs=found.top_logprobs,
    )
