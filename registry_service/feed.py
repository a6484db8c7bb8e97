"""Wakes watchers when a transaction of this process has committed."""

import asyncio


class ChangeFeed:
    """A bell, not a queue: who hears it reads the `changes` table, which is the truth."""

    def __init__(self) -> None:
        self._bell = asyncio.Event()

    def notify(self) -> None:
        """Wakes everyone who waits now."""
        self._bell.set()
        self._bell = asyncio.Event()

    def listen(self) -> asyncio.Event:
        """The next ring. Take it before reading the table, or a change may slip between."""
        return self._bell
