"""What the adapter store remembers of what is on disk, and of what is coming."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from inference_service.adapters.artifact import Artifact
from inference_service.adapters.disk import FileMark
from inference_service.adapters.download import OnProgress


@dataclass
class Entry:
    """An adapter on disk. `marks` are of when it was last verified; None: not yet."""

    size_bytes: int
    marks: tuple[FileMark, ...] | None = None


@dataclass(frozen=True)
class Partial:
    """An unfinished download that nobody goes on with now."""

    size_bytes: int
    left_at: float  # of time.time()


@dataclass
class Flight:
    """One download or verification that any number of requests wait for."""

    artifact: Artifact
    listeners: list[OnProgress] = field(default_factory=list)
    task: asyncio.Task[Path] | None = None

    def report(self, done: int, total: int) -> None:
        for listener in self.listeners:
            listener(done, total)
