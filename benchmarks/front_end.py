"""Tokens per second through one front-end process on one core, and what it adds to each token.

    python -m benchmarks.front_end [--rates 10,20,40,80] [--seconds 10] [--json]

A stub engine sends one message per step with a token for each of 256 streams, as the real one
does, at so many steps per second, through the engine's own socket. The client reads from another
process. A token's delay is from the moment before the engine sent it to the moment the client
had it, by one clock. Steps come at once for all streams, so the last of them waits for the others.
The front end has a core of its own; its share of it is processor time, whoever else is busy.
"""

import json
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.options import AsJson
from benchmarks.stream_reader import Stream, read_streams
from benchmarks.stub_engine import Round, processor_seconds_of
from lorikeet.local import LocalStack
from protos import inference_pb2
from tests.inference.tokenizer_files import write_model

_METHOD = "/lorikeet.inference.v1.Inference/Generate"


class StubStack(LocalStack):
    """A registry and a front end whose engine computes nothing."""

    inference_module = "benchmarks.stub_server"


@dataclass(frozen=True)
class Row:
    """One rate: what was asked for, what came, and the milliseconds the front end added."""

    asked_tokens_per_second: float
    tokens_per_second: float
    tokens_per_message: float
    core_share: float
    microseconds_per_token: float
    p50: float
    p99: float
    worst: float


@dataclass(frozen=True)
class _Service:
    process_id: int
    address: str
    key: str
    directory: Path


def main(
    streams: int = 256,
    rates: Annotated[str, typer.Option(help="Steps per second, each less than 600.")] = "10,40,80",
    seconds: float = 10.0,
    as_json: AsJson = False,
) -> None:
    """One round for each rate."""
    with _running() as service:
        _measure(service, 1, streams, rate=20, num_steps=20)
        rows = [
            _measure(service, number, streams, rate, int(seconds * rate))
            for number, rate in enumerate(map(int, rates.split(",")), start=2)
        ]
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        Console().print(_table(streams, rows))


@contextmanager
def _running() -> Iterator[_Service]:
    with tempfile.TemporaryDirectory() as root:
        model = write_model(Path(root) / "model")
        with StubStack(model, "stub", data_dir=Path(root) / "data") as stack:
            with stack.admin() as admin:
                key = admin.ensure_tenant("bench")
            assert stack.inference is not None
            yield _Service(stack.inference.pid, stack.inference_address, key, model)


def _measure(service: _Service, number: int, streams: int, rate: int, num_steps: int) -> Row:
    request = inference_pb2.GenerateRequest(
        prompt_token_ids=inference_pb2.TokenIds(ids=[rate, streams]),
        sampling=inference_pb2.SamplingParams(max_tokens=num_steps, ignore_eos=True),
    )
    metadata = (("authorization", f"Bearer {service.key}"),)
    answers = read_streams(service.address, _METHOD, request.SerializeToString(), metadata, streams)
    processor_seconds = processor_seconds_of(service.process_id)
    path = service.directory / f"round-{number}.json"
    told = msgspec.json.decode(path.read_bytes(), type=Round)
    return _row(answers, told.times, rate, processor_seconds - told.processor_seconds)


def _row(answers: list[Stream], sent: list[float], rate: int, processor_seconds: float) -> Row:
    delays: list[float] = []
    num_messages, last = 0, 0.0
    for answer in answers:
        arrivals = list(_arrivals(answer))
        num_messages += len(arrivals)
        times = [arrived for arrived, count in arrivals for _ in range(count)]
        assert len(times) == len(sent), "a stream lost tokens"
        delays += [1000 * (there - here) for here, there in zip(sent, times, strict=True)]
        last = max(last, times[-1])
    seconds = last - sent[0] + 1 / rate
    percentiles = statistics.quantiles(delays, n=100, method="inclusive")
    return Row(
        asked_tokens_per_second=rate * len(answers),
        tokens_per_second=len(delays) / seconds,
        tokens_per_message=len(delays) / num_messages,
        core_share=processor_seconds / seconds,
        microseconds_per_token=1e6 * processor_seconds / len(delays),
        p50=percentiles[49],
        p99=percentiles[98],
        worst=max(delays),
    )


def _arrivals(answer: Stream) -> Iterator[tuple[float, int]]:
    """(when, how many tokens) of the chunks of a stream that ended well."""
    kinds = []
    for arrived, message in answer.messages:
        response = inference_pb2.GenerateResponse.FromString(message)
        kinds.append(response.WhichOneof("event"))
        if response.HasField("chunk"):
            yield arrived, len(response.chunk.token_ids)
    assert answer.is_ended
    assert kinds == ["start", *["chunk"] * (len(kinds) - 2), "complete"], kinds[-1:]


def _table(streams: int, rows: list[Row]) -> Table:
    table = Table(title=f"{streams} streams, one front end, one core")
    for column in ("asked tok/s", "tok/s", "tok/message", "of a core", "µs/token"):
        table.add_column(column, justify="right")
    for column in ("added p50 ms", "p99", "worst"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            f"{row.asked_tokens_per_second:,.0f}",
            f"{row.tokens_per_second:,.0f}",
            f"{row.tokens_per_message:.2f}",
            f"{row.core_share:.0%}",
            f"{row.microseconds_per_token:.0f}",
            *(f"{value:.1f}" for value in (row.p50, row.p99, row.worst)),
        )
    return table


if __name__ == "__main__":
    typer.run(main)
