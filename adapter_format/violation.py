"""What is wrong with an artifact, said so that it can be shown to whoever made it."""

from dataclasses import dataclass

MAX_SHOWN = 120


@dataclass(frozen=True)
class Violation:
    """One refused thing: `field` is a file, a tensor or a field of a config."""

    field: str
    description: str


def shown(value: object) -> str:
    """A stranger's value, safe and short enough for an error: errors travel in HTTP/2 headers."""
    text = ascii(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…'"
