"""Engine outputs to text: detokenized, cut at stop strings, the same however steps cut it."""

from dataclasses import dataclass, field

from inference_service.engine.request import TokenLogprob, TokenOutput
from inference_service.sampling import SamplingPlan
from inference_service.stop_strings import StopStringMatcher
from inference_service.tokenizer import ModelTokenizer


@dataclass(frozen=True)
class CompletionPiece:
    """What one engine output adds. `finish_reason` is "", "stop" or "length".

    Text may come later than the tokens it is of; their logprobs come with the tokens.
    """

    token_ids: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: str = ""
    stop_string: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)


class Completion:
    """The text of one running request, and once it has ended, how."""

    def __init__(self, tokenizer: ModelTokenizer, plan: SamplingPlan) -> None:
        self._detokenizer = tokenizer.incremental_detokenizer()
        self._matcher = StopStringMatcher(
            plan.stop_strings, include_in_output=plan.include_stop_string
        )
        self._include_stop_token = plan.include_stop_string
        self._min_tokens = plan.options.min_tokens
        self.num_tokens = 0
        self.num_cached = 0
        self.finish_reason = ""
        self.stop_string = ""

    def add(self, output: TokenOutput) -> CompletionPiece:
        """Takes one output; after a piece with a finish_reason there must be no other."""
        piece = self._read(output)
        self.num_cached += output.num_cached
        self.finish_reason, self.stop_string = piece.finish_reason, piece.stop_string
        return piece

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
