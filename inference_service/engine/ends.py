"""Why an engine's process ended, or was ended."""

import errno
import signal
from dataclasses import dataclass
from typing import Final

OUT_OF_MEMORY_STATUS: Final = errno.ENOMEM
END_REASONS: Final = ("out_of_memory", "killed", "failed", "stalled", "unreadable")


@dataclass(frozen=True)
class EngineEnd:
    """`reason` is one of END_REASONS, the message is for the log."""

    reason: str
    message: str


def ended_by_itself(status: int) -> EngineEnd:
    """By its exit status. The kernel kills for want of memory too, but does not say so."""
    if status == OUT_OF_MEMORY_STATUS:
        return EngineEnd("out_of_memory", "it ran out of memory")
    if status < 0:
        return EngineEnd("killed", f"it was ended by {signal.Signals(-status).name}")
    return EngineEnd("failed", f"it exited with status {status}")
