"""All prompts through all adapters, so many streams at a time."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from lorikeet.cli.comparison.answer import Answer, RunningAnswer
from lorikeet.client import AsyncClient
from lorikeet.generation import Asked


@dataclass(frozen=True)
class Comparison:
    """What is asked of whom; "" is the base model."""

    prompts: Sequence[str]
    adapters: Sequence[str]
    as_chat: bool
    asked: Asked
    max_streams: int


async def answer_all(
    client: AsyncClient,
    comparison: Comparison,
    began: Callable[[Sequence[RunningAnswer]], None],
    ended: Callable[[], None],
) -> AsyncGenerator[list[Answer], None]:
    """The answers to each prompt, in the prompts' order.

    All adapters get a prompt at once, and the next prompts while `max_streams` allows.
    `began` is told of a prompt's answers as they begin, `ended` of each that has ended.
    """
    streams = asyncio.Semaphore(comparison.max_streams)

    async def answer(running: RunningAnswer) -> Answer:
        async with streams:
            answered = await running.run(client, as_chat=comparison.as_chat, asked=comparison.asked)
        ended()
        return answered

    async def answers(prompt: str) -> list[Answer]:
        running = [RunningAnswer(prompt, adapter) for adapter in comparison.adapters]
        began(running)
        return await asyncio.gather(*map(answer, running))

    ahead = 1 + comparison.max_streams // len(comparison.adapters)
    waiting: deque[asyncio.Task[list[Answer]]] = deque()
    try:
        for prompt in comparison.prompts:
            waiting.append(asyncio.create_task(answers(prompt)))
            if len(waiting) >= ahead:
                yield await waiting.popleft()
        while waiting:
            yield await waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
