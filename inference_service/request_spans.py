"""The phases of a request as spans, under that of the call."""

import time
from typing import TYPE_CHECKING

from inference_service.request_record import RequestRecord

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer


class RequestSpans:
    """A RequestObserver: the spans are made when the request ends, of the times that it noted."""

    def __init__(self, tracer: "Tracer") -> None:
        from opentelemetry import trace

        self._tracer = tracer
        self._current_span = trace.get_current_span

    def ended(self, record: RequestRecord) -> None:
        call = self._current_span()
        if not call.is_recording():
            return
        told: dict[str, str | int] = {
            "lorikeet.request_id": record.request_id,
            "lorikeet.principal": record.principal,
            "lorikeet.tenant": record.tenant,
            "lorikeet.adapter_version": record.adapter_version,
            "lorikeet.digest": record.digest,
            "lorikeet.found_on": record.found_on,
            "lorikeet.outcome": record.outcome,
            "lorikeet.cached_tokens": record.num_cached_tokens,
            "gen_ai.usage.input_tokens": record.num_prompt_tokens,
            "gen_ai.usage.output_tokens": record.num_completion_tokens,
        }
        call.set_attributes({key: value for key, value in told.items() if value != ""})
        since_epoch = time.time() - time.monotonic()
        for phase in record.phases:
            began = phase.began + since_epoch
            span = self._tracer.start_span(phase.name, start_time=_nanoseconds(began))
            span.end(_nanoseconds(began + phase.seconds))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
