"""The mixture: how often each kind of document appears, and an endless stream of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Final

from examples.demo.chat_format import render_chat, render_text
from examples.demo.corpus import chat, copying, documents, finishing, numbers, stories

_MIX: Final[tuple[tuple[Callable[[random.Random], str], int], ...]] = (
    (stories.story, 8),
    (stories.note, 6),
    (copying.repeated_list, 10),
    (copying.lookup, 10),
    (copying.reversed_pairs, 4),
    (copying.membership, 3),
    (documents.sql_file, 14),
    (documents.json_record, 9),
    (documents.function_reference, 8),
    (documents.table_of_rows, 3),
    (numbers.sums, 12),
    (numbers.chain, 6),
    (numbers.counting, 2),
    (numbers.account, 8),
    (lambda rng: render_chat(chat.conversation(rng)), 22),
)

_FINISHING_SHARE: Final = 1 / 3


def rendered_documents(seed: int) -> Iterator[str]:
    """Yield documents without end, markers included; the same seed gives the same stream."""
    rng = random.Random(seed)
    writers = [writer for writer, _ in _MIX]
    weights = [weight for _, weight in _MIX]
    while True:
        text = rng.choices(writers, weights)[0](rng)
        yield text if text.startswith("<|begin|>") else render_text(text)


def finishing_documents(seed: int) -> Iterator[str]:
    """Yield the documents of the finishing phase: a third is new, the rest is the mixture."""
    rng = random.Random(seed)
    main = rendered_documents(seed)
    while True:
        if rng.random() < _FINISHING_SHARE:
            yield render_text(rng.choice(finishing.WRITERS)(rng))
        else:
            yield next(main)
