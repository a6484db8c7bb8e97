"""The inference service with `benchmarks.stub_engine` behind it, on the processor core it is given.

Started by `benchmarks.front_end` and by nothing else: what it streams means nothing.
"""

import os

from benchmarks import stub_engine
from inference_service.__main__ import main
from inference_service.engine.process import ChildEngineClient


def serve() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # threads to come inherit it
    main(lambda config, changed: ChildEngineClient(config, changed, module=stub_engine.__name__))


if __name__ == "__main__":
    serve()
