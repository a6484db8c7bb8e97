"""How far an adapter is on its way into the arena, and why it may never get there."""

from dataclasses import dataclass
from enum import Enum


class Readiness(Enum):
    RESIDENT = "resident"
    LOADING = "loading"
    NO_ROOM = "no room"  # packed, and waiting for pages
    FAILED = "failed"


@dataclass(frozen=True)
class Refusal:
    """Why an adapter or a request cannot be served; `reason` is an ErrorInfo reason."""

    reason: str
    message: str
