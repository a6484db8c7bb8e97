"""What is known of one request: who asked, for what, how far it is, and where its time went."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from inference_service.engine.request import TokenOutput
from inference_service.gate import Admitted
from inference_service.token_clock import TokenClock
from lorikeet.rpc.errors import FieldViolation, InvalidArgumentError

_MAX_REQUEST_ID: Final = 128


@dataclass(frozen=True)
class Phase:
    """A part of a request's life: when it began (time.monotonic) and how long it took."""

    name: str
    began: float
    seconds: float


@dataclass(eq=False)
class RequestRecord:
    """Filled in while the request runs; owned by the coroutine that runs it.

    Times are time.monotonic's. `phases` are those that have ended, in order: admission, prompt,
    adapter, queue, prefill, decode; or, of a request that the engine had and that got no token,
    unanswered in place of the last three. `outcome` is a finish reason or an ErrorInfo reason.
    `found_on` is the tier its adapter was on, "base" when it has none, empty until it is known.
    """

    request_id: str
    clock: TokenClock
    principal: str = ""
    tenant: str = ""
    adapter_version: str = ""
    digest: str = ""
    found_on: str = ""
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_completion_tokens: int = 0
    outcome: str = ""
    phases: list[Phase] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    first_token: float | None = None
    ended: float | None = None
    _submitted: float | None = None
    _last_output: dict[int, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Its age, or how long it took."""
        return (self.ended or time.monotonic()) - self.started

    @property
    def seconds_to_first_token(self) -> float | None:
        return self.first_token - self.started if self.first_token else None

    def admitted(self, admitted: Admitted) -> None:
        self.principal = admitted.caller.principal
        self.tenant = admitted.tenant
        self.adapter_version = admitted.version_name
        self.digest = admitted.digest
        self.found_on = "" if admitted.digest else "base"

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What the block does is a phase, however it ends."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.phases.append(Phase(name, began, time.monotonic() - began))

    def submitted(self) -> None:
        """The engine has been given the request."""
        self._submitted = time.monotonic()

    def got_output(self, index: int, output: TokenOutput) -> None:
        """The engine's next output for the completion of this index."""
        count = len(output.token_ids)
        if not count:
            return
        now = time.monotonic()
        last = self._last_output.get(index)
        self._last_output[index] = now
        if last is not None:
            self.clock.later(count, now - last)
            return
        self.clock.first(count)
        if self.first_token is None:
            self._note_first(output, now)

    def got_tokens(self, count: int) -> None:
        """`count` more were sent, of whichever completion."""
        self.num_completion_tokens += count

    def end(self) -> None:
        """The request is over, and with it the phase it was in."""
        self.ended = time.monotonic()
        if self.first_token is not None:
            self.phases.append(Phase("decode", self.first_token, self.ended - self.first_token))
        elif self._submitted is not None:
            self.phases.append(Phase("unanswered", self._submitted, self.ended - self._submitted))

    def _note_first(self, output: TokenOutput, now: float) -> None:
        """The engine tells how long the request waited there; the rest was prefill."""
        assert self._submitted is not None
        self.first_token = now
        self.num_cached_tokens = output.num_cached
        in_engine = now - self._submitted
        queued = min(output.queue_seconds, in_engine)
        self.phases.append(Phase("queue", self._submitted, queued))
        self.phases.append(Phase("prefill", self._submitted + queued, in_engine - queued))


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
