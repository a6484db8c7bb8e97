"""One prompt answered by one adapter: while it runs, and when it has ended."""

import time
from dataclasses import dataclass

from lorikeet.client import AsyncClient
from lorikeet.generation import Asked
from lorikeet.rpc.errors import LorikeetError
from lorikeet.streams import AsyncGenerationStream


@dataclass(frozen=True)
class Answer:
    """What is shown and written down. `error` says why it is not whole; text may be there still.

    `tokens_per_second` is the pace from the first tokens to the last: waiting does not count.
    """

    prompt: str
    adapter: str
    text: str
    version: str
    alias: str
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    first_token_seconds: float | None
    seconds: float
    tokens_per_second: float | None
    error: str


class RunningAnswer:
    """Filled by its own task; whoever shows it only reads `text` and `answer`."""

    def __init__(self, prompt: str, adapter: str) -> None:
        self.prompt = prompt
        self.adapter = adapter
        self.text = ""
        self.answer: Answer | None = None
        self._started = 0.0
        self._arrivals: list[tuple[float, int]] = []  # (seconds, tokens) of each chunk

    async def run(self, client: AsyncClient, *, as_chat: bool, asked: Asked) -> Answer:
        """Answers the prompt; an error of the service is part of the answer."""
        self._started = time.perf_counter()
        stream = self._stream(client, as_chat, asked)
        error = ""
        try:
            async with stream:
                async for chunk in stream:
                    self.text += chunk.text
                    if chunk.token_ids:
                        self._arrivals.append((self._elapsed(), len(chunk.token_ids)))
        except LorikeetError as refused:
            error = f"{refused.message} [{refused.reason}]"
        self.answer = self._ended(stream, error)
        return self.answer

    def _stream(self, client: AsyncClient, as_chat: bool, asked: Asked) -> AsyncGenerationStream:
        if as_chat:
            messages = [{"role": "user", "content": self.prompt}]
            return client.chat_stream(messages, self.adapter, **asked)
        return client.generate_stream(self.prompt, self.adapter, **asked)

    def _ended(self, stream: AsyncGenerationStream, error: str) -> Answer:
        start, completion = stream.start, stream.completion
        return Answer(
            prompt=self.prompt,
            adapter=self.adapter,
            text=self.text,
            version=start.adapter_version if start else "",
            alias=start.alias if start else "",
            finish_reason=completion.finish_reason if completion else "",
            prompt_tokens=start.num_prompt_tokens if start else 0,
            cached_tokens=completion.usage.cached_tokens if completion else 0,
            completion_tokens=sum(count for _, count in self._arrivals),
            first_token_seconds=self._arrivals[0][0] if self._arrivals else None,
            seconds=self._elapsed(),
            tokens_per_second=self._pace(),
            error=error,
        )

    def _pace(self) -> float | None:
        if len(self._arrivals) < 2:
            return None
        seconds = self._arrivals[-1][0] - self._arrivals[0][0]
        return sum(count for _, count in self._arrivals[1:]) / seconds

    def _elapsed(self) -> float:
        return time.perf_counter() - self._started
