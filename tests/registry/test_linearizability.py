"""Concurrent writers see one adapter as if their calls came one after the other.

`LORIKEET_HISTORY=20000 python -m pytest -s tests/registry/test_linearizability.py` for full size.
"""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from tests.registry.history.world import check_history
from tests.registry.process import Process

NUM_OPERATIONS = int(os.environ.get("LORIKEET_HISTORY", "400"))


@pytest.mark.timeout(60 + NUM_OPERATIONS / 5)
async def test_a_registry_on_sqlite_is_linearizable(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    process = Process(data_dir, "--max-open-uploads", "1000", "--heartbeat-seconds", "1")
    try:
        address = await asyncio.to_thread(process.wait_ready)
        key = json.loads((data_dir / "credentials.json").read_text())["admin"]
        await check_history([address], key, NUM_OPERATIONS)
    finally:
        assert process.stop(signal.SIGTERM) == 0
