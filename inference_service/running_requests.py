"""The requests that are being served now, and those who are told of each that ends."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

from inference_service.deadline import Deadline
from inference_service.request_record import RequestRecord
from inference_service.token_clock import TokenClock
from lorikeet.rpc.errors import LorikeetError
from lorikeet.rpc.logs import log_fields

logger = logging.getLogger(__name__)


class RequestObserver(Protocol):
    """Told of every request in the event loop: it must not block."""

    def ended(self, record: RequestRecord) -> None: ...


class RunningRequests:
    """Owns the records of Generate and Chat from the call's start to its end."""

    def __init__(self, observers: Sequence[RequestObserver] = ()) -> None:
        self.clock: Final = TokenClock()
        self._observers = (RequestLog(), *observers)
        self._records: dict[int, RequestRecord] = {}  # in order of arrival

    def admitted(self, tenant: str | None = None) -> list[RequestRecord]:
        """Those that passed the gate, oldest first: of one tenant, or of all."""
        return [
            record
            for record in self._records.values()
            if record.tenant and tenant in (None, record.tenant)
        ]

    @property
    def are_generating(self) -> bool:
        """Whether one of them is past its first token."""
        return any(record.first_token is not None for record in self._records.values())

    @contextmanager
    def record(self, request_id: str, deadline: Deadline) -> Iterator[RequestRecord]:
        """A record for as long as the block runs; its observers are told when it ends.

        A caller whose deadline passes may cancel before this server has noticed it itself.
        """
        record = RequestRecord(request_id, self.clock)
        self._records[id(record)] = record
        try:
            yield record
        except LorikeetError as error:
            record.outcome = error.reason
            raise
        except (asyncio.CancelledError, GeneratorExit):
            ended = deadline.error().reason if deadline.has_passed else "CANCELLED"
            record.outcome = record.outcome or ended
            raise
        except BaseException:
            record.outcome = "INTERNAL"
            raise
        finally:
            del self._records[id(record)]
            record.end()
            for observer in self._observers:
                observer.ended(record)


class RequestLog:
    """One line for every request, whatever its end; never what was said."""

    def ended(self, record: RequestRecord) -> None:
        first_token = record.seconds_to_first_token
        logger.info(
            "request ended",
            extra=log_fields(
                request_id=record.request_id,
                principal=record.principal,
                tenant=record.tenant,
                adapter_version=record.adapter_version,
                outcome=record.outcome,
                prompt_tokens=record.num_prompt_tokens,
                cached_tokens=record.num_cached_tokens,
                completion_tokens=record.num_completion_tokens,
                first_token_ms=first_token and round(1000 * first_token, 1),
                total_ms=round(1000 * record.seconds, 1),
            ),
        )
