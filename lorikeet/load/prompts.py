"""Prompts of an exact number of tokens of the model at hand, no two alike."""

import random
from dataclasses import dataclass
from typing import Final, Self

from lorikeet.client import AsyncClient

# Only a source of tokens that every tokenizer has.
_TEXT: Final = (
    "The lorikeet is a small parrot of the forests and gardens of Australia. It lives on nectar, "
    "pollen and fruit, and 12 or 20 of them may visit a tree at once, loud and quick. In 1788 the "
    "first drawings reached London; what people noticed then was the colour: blue head, green "
    "back, orange breast. Would you like to see one? Look for eucalyptus in bloom, early in the "
    "morning, and listen. They come back to the same tree every year, some from 50 km away!"
)


@dataclass(frozen=True)
class Prompts:
    """Draws from some tokens of the model, so that the prefix cache helps no request.

    Runs with one `salt` have the same prompts: the second finds what the first left in the cache.
    """

    token_ids: tuple[int, ...]
    salt: str

    @classmethod
    async def of_model(cls, client: AsyncClient, salt: str) -> Self:
        return cls(tuple(sorted(set(await client.tokenize(_TEXT)))), salt)

    def prompt(self, number: int, num_tokens: int) -> list[int]:
        draw = random.Random(f"{self.salt} {number}")
        return draw.choices(self.token_ids, k=num_tokens)
