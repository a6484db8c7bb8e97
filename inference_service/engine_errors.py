"""What the engine raises, as errors that callers may see."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from inference_service.engine.client import EngineDiedError, EngineRefusedError
from lorikeet.rpc.errors import (
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    LorikeetError,
    ResourceExhaustedError,
    UnavailableError,
)

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_MIN_RETRY_SECONDS = 0.5


@contextmanager
def translated_engine_errors() -> Iterator[None]:
    """Wraps any use of an EngineClient."""
    try:
        yield
    except (EngineDiedError, EngineRefusedError) as error:
        raise translated(error) from error


def translated(error: EngineDiedError | EngineRefusedError) -> LorikeetError:
    """What a caller is told of it."""
    if isinstance(error, EngineDiedError):
        return engine_restarting(error.retry_at - time.monotonic())
    return _from_refusal(error)


def engine_restarting(seconds: float = _RETRY_SECONDS) -> UnavailableError:
    """The answer while there is no engine, and to streams that the old one ran.

    `seconds` until there should be another.
    """
    return UnavailableError(
        "the engine ended and is being started again",
        reason="ENGINE_RESTARTING",
        retry_after=max(_MIN_RETRY_SECONDS, seconds),
    )


def _from_refusal(error: EngineRefusedError) -> LorikeetError:
    if error.reason == "OUT_OF_PAGES":
        return ResourceExhaustedError(str(error), reason=error.reason, retry_after=_RETRY_SECONDS)
    if error.reason == "ARTIFACT_CORRUPT":
        return DataLossError(str(error), reason=error.reason)
    if error.reason == "INVALID_REQUEST":
        return InvalidArgumentError(str(error), reason=error.reason)
    if error.reason == "ADAPTER_UNKNOWN":
        # Only a restart between load and submit forgets an adapter: a retry loads it again.
        return engine_restarting()
    return FailedPreconditionError(str(error), reason=error.reason)
