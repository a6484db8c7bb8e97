"""What an engine has said for one request and nobody has taken yet."""

import asyncio
import itertools
from collections import deque

from inference_service.engine.request import TokenOutput

# What one `take` brings at most, so that a message made of it stays far below gRPC's limit.
_MAX_TOKENS = 512


class Mailbox:
    """Outputs in, outputs out; those that a slow reader left lying are taken as one.

    Holds no more tokens than its request may generate, so it needs no other bound.
    """

    def __init__(self) -> None:
        self._outputs: deque[TokenOutput] = deque()
        self._end: Exception | None = None
        self._reader: asyncio.Future[None] | None = None

    def put(self, output: TokenOutput) -> None:
        self._outputs.append(output)
        self._wake()

    def end(self, reason: Exception) -> None:
        """What `take` raises once it has given out everything before."""
        self._end = reason
        self._wake()

    async def take(self) -> TokenOutput:
        """What is here, or the next output to come. One reader at a time."""
        while not self._outputs:
            if self._end is not None:
                raise self._end
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self._outputs.popleft() if len(self._outputs) == 1 else self._take_together()

    def _take_together(self) -> TokenOutput:
        """A refusal is never part of another output: who reads it looks at nothing else."""
        taken = [self._outputs.popleft()]
        num_tokens = _num_tokens(taken[0])
        while self._outputs and not self._outputs[0].refusal:
            num_tokens += _num_tokens(self._outputs[0])
            if num_tokens > _MAX_TOKENS:
                break
            taken.append(self._outputs.popleft())
        return joined(taken)

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


def joined(outputs: list[TokenOutput]) -> TokenOutput:
    """Successive outputs of one request as one; only the last may end it."""
    chain = itertools.chain.from_iterable
    return TokenOutput(
        request_id=outputs[-1].request_id,
        token_ids=list(chain(output.token_ids for output in outputs)),
        finish_reason=outputs[-1].finish_reason,
        refusal=outputs[-1].refusal,
        error=outputs[-1].error,
        num_cached=sum(output.num_cached for output in outputs),
        queue_seconds=sum(output.queue_seconds for output in outputs),
        logprobs=list(chain(output.logprobs for output in outputs)),
        prompt_logprobs=list(chain(output.prompt_logprobs for output in outputs)),
    )


def _num_tokens(output: TokenOutput) -> int:
    return len(output.token_ids) + len(output.prompt_logprobs)
