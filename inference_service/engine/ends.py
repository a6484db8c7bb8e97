"""Why an engine's process ended, as far as its exit status tells."""

import errno
from typing import Final

OUT_OF_MEMORY_STATUS: Final = errno.ENOMEM
END_REASONS: Final = ("out_of_memory", "killed", "failed")


def why_ended(status: int) -> str:
    """One of END_REASONS. The kernel kills for want of memory too, but does not say so."""
    if status == OUT_OF_MEMORY_STATUS:
        return "out_of_memory"
    return "killed" if status < 0 else "failed"
