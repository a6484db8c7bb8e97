"""One line for every call that wrote or failed."""

import logging

import grpc

from lorikeet.rpc.call_record import CallRecord
from lorikeet.rpc.logs import log_fields

logger = logging.getLogger("lorikeet.calls")


class CallLog:
    """Reads that succeed are only counted: they are most calls, and say nothing."""

    def started(self, record: CallRecord) -> None:
        pass

    def ended(self, record: CallRecord) -> None:
        if record.code is grpc.StatusCode.OK and not record.is_write:
            return
        logger.info(
            "%s %s",
            record.method,
            record.code.name,
            extra=log_fields(
                request_id=record.request_id,
                principal=record.principal,
                tenant=record.tenant,
                method=record.method,
                code=record.code.name,
                reason=record.reason,
                duration_ms=round(1000 * record.seconds, 1),
                peer=record.peer,
            ),
        )
