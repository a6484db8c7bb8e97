"""Logs for people, or as JSON lines: what happened, to whom, to which resource; never secrets."""

import json
import logging
import sys
import time
from typing import Any, Literal

from lorikeet.rpc.call_record import current_call


class JsonFormatter(logging.Formatter):
    """One JSON object a line; `extra={"fields": {...}}` adds to it."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """The same for a terminal: the fields follow the message as `name=value`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        fields = getattr(record, "fields", {})
        return " ".join([super().formatMessage(record), *(f"{k}={v}" for k, v in fields.items())])


def configure_logging(level: str, form: Literal["json", "text"] = "json") -> None:
    """Sends every log record to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def log_fields(**fields: Any) -> dict[str, dict[str, Any]]:
    """The `extra` argument for a record with these fields; empty ones are left out.

    In a call that is part of a trace, the trace's id is one more.
    """
    fields["trace_id"] = current_call().trace_id
    return {"fields": {key: value for key, value in fields.items() if value not in ("", None)}}
