"""Engine outputs to text: detokenized, cut at stop strings, the same however steps cut it."""

from dataclasses import dataclass, field, replace

from inference_service.engine.request import TokenLogprob, TokenOutput
from inference_service.sampling import SamplingPlan
from inference_service.stop_strings import StopStringMatcher
from inference_service.tokenizer import ModelTokenizer
from inference_service.tools.call import ToolCall
from inference_service.tools.offered import OfferedTools


@dataclass(frozen=True)
class CompletionPiece:
    """What one engine output adds. `finish_reason` is "", "stop", "length" or "tool_calls".

    Text and calls may come later than the tokens they are of; their logprobs come with the tokens.
    `tool_call_error` says why text that began as a call is none.
    """

    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: str = ""
    stop_string: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    tool_calls: list[ToolCall] = field(default_factory=list)
    tool_call_error: str = ""


class Completion:
    """The text of one running request, and once it has ended, how.

    Stop strings are looked for in all that the model writes, calls in what they leave of it.
    """

    def __init__(
        self, tokenizer: ModelTokenizer, plan: SamplingPlan, tools: OfferedTools | None = None
    ) -> None:
        self._detokenizer = tokenizer.incremental_detokenizer(shown=tools.markup if tools else ())
        self._calls = tools.finder() if tools else None
        self._matcher = StopStringMatcher(
            plan.stop_strings, include_in_output=plan.include_stop_string
        )
        self._include_stop_token = plan.include_stop_string
        self._min_tokens = plan.options.min_tokens
        self.num_tokens = 0
        self.num_cached = 0
        self.finish_reason = ""
        self.stop_string = ""
        self.tool_calls: list[ToolCall] = []

    def add(self, output: TokenOutput) -> CompletionPiece:
        """Takes one output; after a piece with a finish_reason there must be no other."""
        piece = self._with_calls(self._read(output))
        self.num_cached += output.num_cached
        self.finish_reason, self.stop_string = piece.finish_reason, piece.stop_string
        return piece

    def _with_calls(self, piece: CompletionPiece) -> CompletionPiece:
        """A piece whose text may have calls in it, with these apart."""
        if self._calls is None:
            return piece
        found = self._calls.push(piece.text)
        if piece.finish_reason:
            found += self._calls.flush()
        self.tool_calls += found.calls
        called = self.tool_calls and piece.finish_reason == "stop"
        return replace(
            piece,
            text=found.text,
            tool_calls=found.calls,
            tool_call_error="; ".join(found.errors),
            finish_reason="tool_calls" if called else piece.finish_reason,
        )

    def _read(self, output: TokenOutput) -> CompletionPiece:
        texts: list[str] = []
        for index, token_id in enumerate(output.token_ids):
            self.num_tokens += 1
            is_stop_token = output.finish_reason == "stop" and index + 1 == len(output.token_ids)
            if is_stop_token and not self._include_stop_token:
                break
            emission = self._matcher.push(self._detokenizer.push(token_id), may_stop=self._may_stop)
            texts.append(emission.text)
            if emission.stop_string:
                return _piece(output, texts, "stop", emission.stop_string, num_tokens=index + 1)
        return self._ended(output, texts) if output.finish_reason else _piece(output, texts)

    @property
    def _may_stop(self) -> bool:
        """As in vLLM, the text of the first `min_tokens` tokens cannot complete a stop string."""
        return self.num_tokens > self._min_tokens or self._min_tokens == 0

    def _ended(self, output: TokenOutput, texts: list[str]) -> CompletionPiece:
        emission = self._matcher.push(self._detokenizer.flush(), may_stop=self._may_stop)
        texts.append(emission.text)
        if emission.stop_string:
            return _piece(output, texts, "stop", emission.stop_string)
        texts.append(self._matcher.flush())
        return _piece(output, texts, output.finish_reason)


def _piece(
    output: TokenOutput,
    texts: list[str],
    finish_reason: str = "",
    stop_string: str = "",
    num_tokens: int | None = None,
) -> CompletionPiece:
    """The first `num_tokens` tokens of an output (None: all), with the text sent for them."""
    return CompletionPiece(
        output.token_ids[:num_tokens],
        "".join(texts),
        finish_reason,
        stop_string,
        output.logprobs[:num_tokens],
        output.prompt_logprobs,
    )
