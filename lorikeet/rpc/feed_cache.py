"""A bounded cache whose entries end when the change feed names what they were made from."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass(frozen=True)
class Loaded(Generic[Value]):
    """A loaded value, what it was made from, and for how many seconds it may serve.

    0 seconds: not at all.
    """

    value: Value
    sources: frozenset[str]
    seconds: float


@dataclass(eq=False)
class _Load(Generic[Value]):
    """A value being loaded; `source` is what it will be made from, None when not yet known."""

    source: str | None
    task: "asyncio.Task[Value]" = field(init=False)


class FeedCache(Generic[Key, Value]):
    """Used from the event loop only. Callers who miss together share one load.

    A load during which its source changed answers those who already waited for it, and nobody else.
    """

    def __init__(self, max_entries: int, is_current: Callable[[], bool]) -> None:
        self._max_entries = max_entries
        self._is_current = is_current
        self._entries: OrderedDict[Key, tuple[Loaded[Value], float]] = OrderedDict()
        self._keys: dict[str, set[Key]] = {}
        self._loads: dict[Key, _Load[Value]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def cached(self, key: Key) -> Value | None:
        """The value if it may be served now: None when the feed is out of touch."""
        entry = self._entries.get(key)
        if entry is None or not self._is_current():
            return None
        loaded, deadline = entry
        if time.monotonic() >= deadline:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return loaded.value

    async def get(
        self, key: Key, source: str | None, load: Callable[[], Awaitable[Loaded[Value]]]
    ) -> Value:
        """The cached value, or one from `load`; errors of `load` are not kept."""
        value = self.cached(key)
        if value is not None:
            return value
        running = self._loads.get(key)
        if running is None:
            running = self._loads[key] = _Load(source)
            running.task = asyncio.create_task(self._run(key, running, load))
            running.task.add_done_callback(_read_error)
        return await asyncio.shield(running.task)  # who leaves does not end it for the others

    def forget(self, source: str) -> None:
        """Ends every entry made from `source`."""
        for key in self._keys.get(source, set()).copy():
            self._drop(key)
        for key, load in list(self._loads.items()):
            if load.source in (None, source):
                del self._loads[key]

    def clear(self) -> None:
        self._entries.clear()
        self._keys.clear()
        self._loads.clear()

    async def _run(
        self, key: Key, load: _Load[Value], function: Callable[[], Awaitable[Loaded[Value]]]
    ) -> Value:
        try:
            loaded = await function()
            if self._loads.get(key) is load and loaded.seconds > 0:
                self._store(key, loaded)
            return loaded.value
        finally:
            if self._loads.get(key) is load:
                del self._loads[key]

    def _store(self, key: Key, loaded: Loaded[Value]) -> None:
        self._drop(key)
        self._entries[key] = (loaded, time.monotonic() + loaded.seconds)
        for source in loaded.sources:
            self._keys.setdefault(source, set()).add(key)
        if len(self._entries) > self._max_entries:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        for source in entry[0].sources:
            keys = self._keys[source]
            keys.discard(key)
            if not keys:
                del self._keys[source]


def _read_error(task: "asyncio.Task[Value]") -> None:
    if not task.cancelled():
        task.exception()  # everyone who waited may have left
