"""One log line for every request that passed the gate, whatever its end."""

import asyncio
import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from inference_service.deadline import Deadline
from inference_service.gate import Admitted
from lorikeet.rpc.errors import FieldViolation, InvalidArgumentError, LorikeetError
from lorikeet.rpc.logs import log_fields

logger = logging.getLogger(__name__)

_MAX_REQUEST_ID = 128


@dataclass
class RequestRecord:
    """Filled in while the request runs; owned by the coroutine that runs it."""

    request_id: str
    principal: str = ""
    tenant: str = ""
    adapter_version: str = ""
    num_prompt_tokens: int = 0
    num_completion_tokens: int = 0
    outcome: str = ""
    started: float = field(default_factory=time.monotonic)
    first_token: float | None = None

    def admitted(self, admitted: Admitted) -> None:
        self.principal = admitted.caller.principal
        self.tenant = admitted.tenant
        self.adapter_version = admitted.version_name

    def got_tokens(self, count: int) -> None:
        """`count` more, of whichever completion."""
        self.num_completion_tokens += count
        if count and self.first_token is None:
            self.first_token = time.monotonic()


@contextmanager
def recorded(request_id: str, deadline: Deadline) -> Iterator[RequestRecord]:
    """Logs the record when the request ends.

    A caller whose deadline passes may cancel before this server has noticed it itself.
    """
    record = RequestRecord(request_id)
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
        _log(record)


def checked_request_id(value: str) -> str:
    """The caller's id if it gave one that can be logged, else a new one."""
    if len(value) > _MAX_REQUEST_ID or not value.isprintable():
        description = f"at most {_MAX_REQUEST_ID} printable characters"
        raise InvalidArgumentError(
            f"request_id: {description}",
            reason="INVALID_REQUEST_ID",
            violations=[FieldViolation("request_id", description)],
        )
    return value or uuid.uuid4().hex


def _log(record: RequestRecord) -> None:
    first_token = record.first_token
    logger.info(
        "request ended",
        extra=log_fields(
            request_id=record.request_id,
            principal=record.principal,
            tenant=record.tenant,
            adapter_version=record.adapter_version,
            outcome=record.outcome,
            prompt_tokens=record.num_prompt_tokens,
            completion_tokens=record.num_completion_tokens,
            first_token_ms=first_token and round(1000 * (first_token - record.started), 1),
            total_ms=round(1000 * (time.monotonic() - record.started), 1),
        ),
    )
