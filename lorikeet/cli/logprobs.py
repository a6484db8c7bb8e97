"""Logprobs as tables that people can read."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from lorikeet.cli.output import print_table, stdout
from lorikeet.client import Client
from lorikeet.completion import Completion, TokenLogprob

_COLUMNS = ("token", "id", "logprob", "chance", "rank", "likeliest")


def print_logprobs(client: Client, completion: Completion) -> None:
    """The prompt's and each completion's, as far as they were asked for."""
    tables = [("prompt", completion.prompt_logprobs)]
    tables += [(f"completion {each.index}", each.logprobs) for each in completion.choices]
    token_ids = sorted({token_id for _, table in tables for token_id in _token_ids(table)})
    if not token_ids:
        return
    texts = dict(zip(token_ids, client.token_texts(token_ids), strict=True))
    for title, table in tables:
        if table:
            stdout().print(f"\nlogprobs of the {title}", style="bold")
            print_table(_COLUMNS, _rows(table, texts), "")


def _token_ids(table: Iterable[TokenLogprob]) -> Iterator[int]:
    for each in table:
        yield each.token_id
        yield from (token_id for token_id, _ in each.top)


def _rows(table: Sequence[TokenLogprob], texts: Mapping[int, str]) -> Iterator[list[str]]:
    for each in table:
        yield [
            repr(texts[each.token_id]),
            str(each.token_id),
            f"{each.logprob:.4f}",
            _chance(each.logprob),
            str(each.rank),
            "  ".join(f"{texts[token_id]!r} {_chance(logprob)}" for token_id, logprob in each.top),
        ]


def _chance(logprob: float) -> str:
    return f"{math.exp(logprob):.1%}"
