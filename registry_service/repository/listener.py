"""PostgreSQL's LISTEN, on a connection of its own that comes back when it is lost."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Engine

from registry_service.repository.engine import POSTGRESQL

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.5
_CONNECT_SECONDS = 3


async def listen(engine: Engine, channel: str, heard: Callable[[], None]) -> None:
    """Calls `heard` at every notification and after every reconnection; ends by cancellation.

    SQLite has none: it returns at once.
    """
    if engine.dialect.name != POSTGRESQL:
        return
    while True:
        try:
            await _listen_once(engine, channel, heard)
        except (psycopg.Error, OSError) as error:
            logger.warning("no notifications from the database: %s", str(error).partition("\n")[0])
        await asyncio.sleep(_RETRY_SECONDS)


async def _listen_once(engine: Engine, channel: str, heard: Callable[[], None]) -> None:
    _, given = engine.dialect.create_connect_args(engine.url)
    arguments: dict[str, Any] = {
        **given,
        "autocommit": True,
        "application_name": "lorikeet-registry-feed",
        "connect_timeout": _CONNECT_SECONDS,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
    }
    async with await psycopg.AsyncConnection.connect(**arguments) as connection:
        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        heard()
        async for _ in connection.notifies():
            heard()
