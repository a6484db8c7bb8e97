"""One transaction in a thread: tried again when another got in its way, cut when it hangs."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay
from tenacity.wait import wait_random_exponential

from lorikeet.rpc.errors import AbortedError, UnavailableError
from registry_service.repository.engine import cutter
from registry_service.repository.journal import Change, recorded

T = TypeVar("T")

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
_MAX_ATTEMPTS = 20
# serialization failure, deadlock; unique and foreign keys that another transaction was faster with.
_LOST_RACES = frozenset({"40001", "40P01", "23505", "23503"})
_READ_ONLY_SERVER = "25006"


class CommitLostError(Exception):
    """The connection was lost at COMMIT: nobody knows whether the transaction took place."""


class Transaction(Generic[T]):
    """Runs `function` over a session; commits if there is someone to tell of it. Used once."""

    def __init__(
        self,
        engine: Engine,
        function: Callable[[Session], T],
        seconds: float,
        committed: Callable[[Sequence[Change]], None] | None = None,
    ) -> None:
        self._engine = engine
        self._function = function
        self._seconds = seconds
        self._committed = committed
        self._guard = threading.Lock()
        self._cut: Callable[[], None] | None = None
        self._is_overdue = False

    def run(self) -> T:
        """Typed errors of `function` pass; those of the database become UNAVAILABLE or ABORTED."""
        retrying = Retrying(
            stop=stop_after_attempt(_MAX_ATTEMPTS) | stop_after_delay(self._seconds),
            wait=wait_random_exponential(multiplier=0.005, max=0.2),
            retry=retry_if_exception(self._is_worth_repeating),
            reraise=True,
        )
        try:
            return retrying(self._attempt)
        except (IntegrityError, StaleDataError) as error:
            raise _lost_every_race(error) from error
        except CommitLostError as error:
            raise unavailable(
                "the connection to the database was lost while committing: the change may or may "
                "not have been made; read before you repeat it"
            ) from error
        except (DBAPIError, PoolTimeoutError) as error:
            if not _is_outage(error):
                raise
            logger.warning("the database failed: %s", _first_line(error))
            raise unavailable("the registry's database cannot be reached or is busy") from error

    def cut(self) -> None:
        """Ends a transaction that hangs, from another thread; it raises UNAVAILABLE in its own."""
        with self._guard:
            self._is_overdue = True
            if self._cut is not None:
                self._cut()

    def _attempt(self) -> T:
        with Session(self._engine, expire_on_commit=False) as session:
            self._attach(cutter(session.connection()))
            try:
                result = self._function(session)
                if self._committed is not None:
                    session.flush()
                    _commit(session)
                    self._committed(recorded(session))
                return result
            finally:
                self._attach(None)

    def _attach(self, cut: Callable[[], None] | None) -> None:
        with self._guard:
            self._cut = cut
            if cut is not None and self._is_overdue:
                cut()

    def _is_worth_repeating(self, error: BaseException) -> bool:
        if self._is_overdue:
            return False
        if isinstance(error, StaleDataError):
            return True
        if not isinstance(error, DBAPIError):
            return False
        # Before COMMIT a lost connection means that nothing happened; a pool's connections may
        # all be stale after a restart of the database.
        return error.connection_invalidated or _sqlstate(error) in _LOST_RACES


def _commit(session: Session) -> None:
    try:
        session.commit()
    except (OperationalError, InterfaceError) as error:
        if error.connection_invalidated:
            raise CommitLostError from error
        raise


def unavailable(message: str) -> UnavailableError:
    return UnavailableError(message, reason="DATABASE_UNAVAILABLE", retry_after=RETRY_SECONDS)


def _lost_every_race(error: Exception) -> Exception:
    if isinstance(error, IntegrityError) and _sqlstate(error) not in (*_LOST_RACES, ""):
        return error  # not a race: our own bug
    return AbortedError(
        "other changes came between: read the resource again and retry",
        reason="CONCURRENT_CHANGE",
    )


def _is_outage(error: Exception) -> bool:
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if isinstance(error, DBAPIError) and _sqlstate(error) == _READ_ONLY_SERVER:
        return True
    return isinstance(error, OperationalError | PoolTimeoutError)


def _sqlstate(error: DBAPIError) -> str:
    """PostgreSQL's code of the error; empty for SQLite."""
    cause: Any = error.orig
    return getattr(cause, "sqlstate", None) or ""


def _first_line(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return str(cause).partition("\n")[0]
