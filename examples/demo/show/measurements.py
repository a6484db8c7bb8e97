"""What the demo measures, with the SDK, from outside the services."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from lorikeet import AsyncClient

MAX_FIRST_TOKEN_SECONDS: Final = 0.1
MIN_MIXED_RATIO: Final = 0.7

_NUM_LATENCY_REQUESTS: Final = 12
_NUM_STREAMS: Final = 8
_NUM_RUNS: Final = 7
_TOKENS_PER_STREAM: Final = 128
_SUBJECTS: Final = ("bird", "dog", "cat", "fish", "horse", "mouse", "fox", "bear")


@dataclass(frozen=True)
class Latency:
    """Seconds from the call to its first token, one request at a time."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        verdict = _verdict(self.median < MAX_FIRST_TOKEN_SECONDS)
        return (
            f"first token of the base: {self.median * 1000:.1f} ms, median of"
            f" {len(self.seconds)} warmed requests (bar: well under 100 ms, {verdict})"
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "first_token_milliseconds": self.median * 1000,
            "first_token_bar_met": self.median < MAX_FIRST_TOKEN_SECONDS,
        }


@dataclass(frozen=True)
class Throughput:
    """Tokens per second of whole runs: 8 streams of the base, and 8 over base and adapters."""

    base: tuple[float, ...]
    mixed: tuple[float, ...]

    @property
    def ratio(self) -> float:
        return statistics.median(self.mixed) / statistics.median(self.base)

    def __str__(self) -> str:
        return (
            f"{_NUM_STREAMS} streams: base {statistics.median(self.base):.0f} tokens/s,"
            f" base and adapters mixed {statistics.median(self.mixed):.0f} tokens/s,\n"
            f"  ratio {self.ratio:.2f} of medians of {len(self.base)} alternating runs each"
            f" (bar: ≥ {MIN_MIXED_RATIO}, {_verdict(self.ratio >= MIN_MIXED_RATIO)})"
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "base_tokens_per_second": self.base,
            "mixed_tokens_per_second": self.mixed,
            "mixed_ratio": self.ratio,
            "mixed_ratio_bar_met": self.ratio >= MIN_MIXED_RATIO,
        }


async def measure_latency(client: AsyncClient) -> Latency:
    """Prompts differ from one another, so that no prefix cache answers for the model."""
    prompts = [_prompt(number) for number in range(_NUM_LATENCY_REQUESTS + 2)]
    seconds = [await _first_token_seconds(client, prompt) for prompt in prompts]
    return Latency(tuple(seconds[2:]))  # the first two warm the path up


async def measure_throughput(client: AsyncClient, adapters: Sequence[str]) -> Throughput:
    """Alternates the two kinds of run, so that what else the machine does falls on both."""
    mixed_streams = [("", *adapters)[index % (len(adapters) + 1)] for index in range(_NUM_STREAMS)]
    base_streams = [""] * _NUM_STREAMS
    base, mixed = [], []
    await _tokens_per_second(client, mixed_streams, num_tokens=4)  # loads what is not there
    for _ in range(_NUM_RUNS):
        base.append(await _tokens_per_second(client, base_streams))
        mixed.append(await _tokens_per_second(client, mixed_streams))
    return Throughput(tuple(base), tuple(mixed))


async def _first_token_seconds(client: AsyncClient, prompt: str) -> float:
    messages = [{"role": "user", "content": prompt}]
    began = time.perf_counter()
    async with client.chat_stream(messages, max_tokens=2, ignore_eos=True) as stream:
        async for chunk in stream:
            if chunk.token_ids:
                return time.perf_counter() - began
    raise AssertionError("a stream without tokens does not end normally")


async def _tokens_per_second(
    client: AsyncClient, streams: Sequence[str], num_tokens: int = _TOKENS_PER_STREAM
) -> float:
    """Of `len(streams)` concurrent streams that generate exactly `num_tokens` each."""
    began = time.perf_counter()
    completions = await asyncio.gather(
        *(
            client.chat(
                [{"role": "user", "content": _prompt(number)}],
                adapter,
                max_tokens=num_tokens,
                ignore_eos=True,
                temperature=0.0,
            )
            for number, adapter in enumerate(streams)
        )
    )
    seconds = time.perf_counter() - began
    return sum(completion.usage.completion_tokens for completion in completions) / seconds


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


def _prompt(number: int) -> str:
    subject = _SUBJECTS[number % len(_SUBJECTS)]
    return f"{number + 3}: tell me a story about a {subject}."
