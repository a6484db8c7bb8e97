"""What an engine's process writes becomes lines of this service's log, in the service's format."""

import asyncio
import logging
from typing import Final

CHILD_FORMAT: Final = "%(levelname)s %(message)s"
MAX_LINE_BYTES: Final = 1 << 16

logger = logging.getLogger("inference_service.engine")


async def relay_log(written: asyncio.StreamReader) -> None:
    """Until the process has closed its end. What is no line of a log, such as a traceback, is an
    error; a line that is too long is left out."""
    while True:
        try:
            line = await written.readline()
        except ValueError:  # asyncio has dropped it
            continue
        if not line:
            return
        level, message = _parsed(line.decode(errors="replace").rstrip())
        logger.log(level, "%s", message)


def _parsed(line: str) -> tuple[int, str]:
    name, _, message = line.partition(" ")
    level = logging.getLevelNamesMapping().get(name)
    return (logging.ERROR, line) if level is None else (level, message)
