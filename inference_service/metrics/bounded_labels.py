"""Label values from outside, of which there may be thousands: so many are told apart, no more."""

from typing import Final

OTHERS: Final = "(others)"


class BoundedLabels:
    """The first `limit` values keep their own series for good; all later ones share one.

    First come, not largest: a series that moved between its own label and OTHERS would count
    backwards, and every rate over it would be wrong.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: set[str] = set()

    def of(self, value: str) -> str:
        """The label that stands for `value`."""
        if value in self._kept:
            return value
        if len(self._kept) >= self._limit:
            return OTHERS
        self._kept.add(value)
        return value
