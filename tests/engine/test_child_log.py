"""What an engine's process writes is logged by who started it."""

import asyncio
import logging
from pathlib import Path

import pytest

from inference_service.engine.child_log import MAX_LINE_BYTES, relay_log
from inference_service.engine.client import EngineDiedError
from inference_service.engine.config import EngineConfig
from inference_service.engine.process import ChildEngineClient


async def relayed(caplog: pytest.LogCaptureFixture, *lines: bytes) -> list[tuple[str, str]]:
    written = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    for line in lines:
        written.feed_data(line)
    written.feed_eof()
    with caplog.at_level(logging.INFO):
        await relay_log(written)
    return [(record.levelname, record.getMessage()) for record in caplog.records]


async def test_levels_are_kept_and_what_has_none_is_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines = [b"INFO it runs\n", b"WARNING a %s b\n", b"Traceback (most recent call last):\n"]
    assert await relayed(caplog, *lines, b"Killed \xff") == [
        ("INFO", "it runs"),
        ("WARNING", "a %s b"),
        ("ERROR", "Traceback (most recent call last):"),
        ("ERROR", "Killed \ufffd"),
    ]


async def test_a_line_without_end_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    endless = b"x" * (3 * MAX_LINE_BYTES) + b"\n"
    assert ("INFO", "it runs") in await relayed(caplog, endless, b"INFO it runs\n")
    assert max(len(record.getMessage()) for record in caplog.records) <= MAX_LINE_BYTES


async def test_why_an_engine_does_not_start_is_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "unknown-to-all"}')
    client = ChildEngineClient(EngineConfig(str(tmp_path), memory_bytes=1 << 20))
    with caplog.at_level(logging.INFO), pytest.raises(EngineDiedError):
        await client.start()
    await client.close()
    lines = [r.getMessage() for r in caplog.records if r.name == "inference_service.engine"]
    assert any("cannot serve this model" in line and "unknown-to-all" in line for line in lines)
