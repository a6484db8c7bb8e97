"""What a chaos test shows for itself when it has passed."""

from collections.abc import Mapping


def show(title: str, figures: Mapping[str, object]) -> None:
    """A small table; `pytest -s` lets it through."""
    width = max(map(len, figures))
    print(f"\n{title}")
    for name, value in figures.items():
        print(f"  {name:{width}}  {value}")
