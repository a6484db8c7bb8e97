"""The engine's loop, over any transport."""

from collections.abc import Callable

from inference_service.engine.engine import Engine
from inference_service.engine.request import Command, Reply, Shutdown

_IDLE_SECONDS = 0.5  # how often `receive` gets a chance to notice that nobody is left
_LOADING_SECONDS = 0.001


def run_engine(
    engine: Engine,
    receive: Callable[[float], Command | None],
    send: Callable[[Reply], None],
) -> None:
    """Handles commands between steps until a Shutdown.

    `receive` waits up to the given seconds for a command; it may end the loop by raising.
    """
    timeout = 0.0
    while True:
        command = receive(timeout)
        while command is not None:
            if isinstance(command, Shutdown):
                engine.close()
                return
            for reply in engine.handle(command):
                send(reply)
            command = receive(0.0)
        num_steps = engine.num_steps
        for reply in engine.step():
            send(reply)
        if engine.is_idle:
            timeout = _IDLE_SECONDS
        else:
            timeout = 0.0 if engine.num_steps > num_steps else _LOADING_SECONDS
