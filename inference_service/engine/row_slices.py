"""Work over [rows, vocabulary] in bounded pieces."""

from collections.abc import Iterator

# Enough for any kernel to be busy; a float32 copy of a piece is 32 MiB.
_MAX_ELEMENTS = 1 << 23


def row_slices(num_rows: int, row_elements: int) -> Iterator[slice]:
    """Consecutive slices of at most 2^23 elements, and at least one row, that cover all rows."""
    step = max(1, _MAX_ELEMENTS // row_elements)
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))
