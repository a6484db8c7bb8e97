"""Adapters that could not be loaded, and why: asked for again, they fail at once for a while."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from inference_service.adapters.artifact import Artifact
from lorikeet.rpc.errors import LorikeetError

logger = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS: Final = 5.0
_MAX_PAUSE_SECONDS: Final = 300.0
_MAX_RECORDS: Final = 10_000
# Another try would end as the last one did, and cost as much. (A registry that is away is not
# among these: whoever asks finds out by asking.)
LASTING: Final = frozenset({"ARTIFACT_CORRUPT", "ADAPTER_INVALID", "OUT_OF_PAGES"})


@dataclass(frozen=True)
class AdapterFailure:
    """How the last of `num_tries` ended; there is no other before `retry_at`, of the clock."""

    digest: str
    error: LorikeetError
    num_tries: int
    retry_at: float


class AdapterFailures:
    """By version name: what one tenant's version failed of tells nothing to the next tenant."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, AdapterFailure] = OrderedDict()  # oldest first

    def get(self, version_name: str) -> LorikeetError | None:
        """What callers hear of a version that failed, with the time that is left to wait."""
        failure = self._failures.get(version_name)
        return self._told(failure) if failure else None

    def digests(self) -> dict[str, str]:
        """Version name to digest of all that failed."""
        return {name: failure.digest for name, failure in self._failures.items()}

    def check(self, version_name: str) -> None:
        """Raises the error of the last try while it is too early for the next."""
        failure = self._failures.get(version_name)
        if failure is not None and self._clock() < failure.retry_at:
            raise self._told(failure)

    @contextmanager
    def noted(self, artifact: Artifact) -> Iterator[None]:
        """Around a try: remembers an error that lasts."""
        try:
            yield
        except LorikeetError as error:
            if error.reason not in LASTING:
                raise
            raise self._told(self._note(artifact, error)) from error

    def forgive(self, version_name: str) -> None:
        """Lets the next try come now; its failure makes the pause longer, as any does."""
        failure = self._failures.get(version_name)
        if failure is not None:
            self._failures[version_name] = AdapterFailure(
                failure.digest, failure.error, failure.num_tries, self._clock()
            )

    def forget(self, version_name: str) -> None:
        """A try succeeded."""
        self._failures.pop(version_name, None)

    def _note(self, artifact: Artifact, error: LorikeetError) -> AdapterFailure:
        """Those who waited for one try together fail together: it counts once."""
        last, now = self._failures.get(artifact.version_name), self._clock()
        if last is not None and now < last.retry_at:
            return last
        num_tries = last.num_tries + 1 if last else 1
        pause = min(_MAX_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(num_tries - 1, 10))
        logger.error(
            "loading %s failed (try %d), none for %.0f s: %s",
            *(artifact.version_name, num_tries, pause, error.message),
        )
        failure = AdapterFailure(artifact.digest, error, num_tries, now + pause)
        self._failures[artifact.version_name] = failure
        self._failures.move_to_end(artifact.version_name)
        if len(self._failures) > _MAX_RECORDS:
            self._failures.popitem(last=False)
        return failure

    def _told(self, failure: AdapterFailure) -> LorikeetError:
        error = failure.error
        return type(error)(
            error.message,
            reason=error.reason,
            metadata=error.metadata,
            retry_after=max(0.0, failure.retry_at - self._clock()),
        )
