"""Work beside a step yields to it."""

import os
import sys
import threading

import pytest
import torch

from inference_service.engine.background import background_executor


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads are Linux's")
def test_the_thread_is_nicer_than_the_others() -> None:
    before = niceness()
    with background_executor("test") as executor:
        assert executor.submit(niceness).result() == max(10, before)
        assert executor.submit(torch.get_num_threads).result() == 1
    assert niceness() == before
