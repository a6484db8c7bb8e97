"""The engine child: `python -m inference_service.engine ENDPOINT PARENT_PID CONFIG_JSON`."""

import logging
import os
import signal
import sys

import msgspec
import zmq

from inference_service.engine.child_log import CHILD_FORMAT
from inference_service.engine.config import EngineConfig, EngineConfigError
from inference_service.engine.ends import OUT_OF_MEMORY_STATUS
from inference_service.engine.engine import Engine
from inference_service.engine.loop import run_engine
from inference_service.engine.out_of_memory import is_out_of_memory
from inference_service.engine.request import Command, Reply
from inference_service.models.spec import UnsupportedModelError

# A step lets go of the interpreter in every kernel. A thread that loads an adapter takes it then
# and keeps it for this long: with Python's own 5 ms, many times in a step.
_SWITCH_SECONDS = 0.0001


class _ParentGoneError(Exception):
    """Nobody is left to serve."""


class Channel:
    """Commands from the parent and replies to it, one message each.

    Both sockets connect at once, and never again: their path goes with the first reply.
    """

    def __init__(self, endpoint: str, parent: int) -> None:
        self._parent = parent
        context = zmq.Context()
        self._commands, self.replies = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        self._commands.connect(endpoint + "-commands")
        self.replies.connect(endpoint + "-replies")
        self._decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)

    def receive(self, timeout: float) -> Command | None:
        if self._commands.poll(int(timeout * 1000)):
            return self._decoder.decode(self._commands.recv())
        if os.getppid() != self._parent:
            raise _ParentGoneError
        return None

    def send(self, reply: Reply) -> None:
        while not self.replies.poll(1000, zmq.POLLOUT):  # nobody has connected
            if os.getppid() != self._parent:
                raise _ParentGoneError
        self.replies.send(msgspec.msgpack.encode(reply))


def main() -> int:
    endpoint, parent, config = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    logging.basicConfig(level=logging.INFO, format=CHILD_FORMAT)
    # Ctrl-C reaches the whole process group; the parent stops the engine after its streams.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.setswitchinterval(_SWITCH_SECONDS)
    channel = Channel(endpoint, parent)
    try:
        engine = Engine(msgspec.json.decode(config, type=EngineConfig))
    except UnsupportedModelError as error:
        logging.error("cannot serve this model: %s", error)
        return 1
    except EngineConfigError as error:
        logging.error("cannot start: %s", error)
        return 1
    try:
        channel.send(engine.info)
        run_engine(engine, channel.receive, channel.send)
    except _ParentGoneError:
        logging.error("the front end is gone; the engine ends too")
        engine.close()
        return 1
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        logging.exception("out of memory")
        return OUT_OF_MEMORY_STATUS
    return 0


if __name__ == "__main__":
    sys.exit(main())
