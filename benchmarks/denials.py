"""Whether a tenant can tell by the clock what others have: denied beside absent.

    python -m benchmarks.denials [--requests 400]

Asks a real front end and registry for an adapter that is there but not shared, and for one that is
not there, in turn. The registry finds out the one a little sooner than the other, so the front end
answers denials on a beat: what differs must be no more than between two measurements of the same.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from lorikeet.rpc.errors import PermissionDeniedError
from protos import inference_pb2 as pb
from tests.inference.world import User, running_world

_NAMES = {"denied": "owner/here", "absent": "owner/gone", "denied again": "owner/here"}


async def _seconds(user: User, adapter: str) -> float:
    request = pb.TokenizeRequest(adapter=adapter, text="x")
    began = time.perf_counter()
    try:
        await user("Tokenize", request)
    except PermissionDeniedError:
        return time.perf_counter() - began
    raise AssertionError(f"{adapter} was allowed")


async def _measure(num_requests: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {what: [] for what in _NAMES}
    with tempfile.TemporaryDirectory() as directory:
        async with running_world(Path(directory)) as world:
            stranger = await world.user("stranger")
            await world.key("owner")
            await world.publish("owner", "here")
            for _ in range(num_requests):
                for what, adapter in _NAMES.items():
                    taken[what].append(await _seconds(stranger, adapter))
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=400, help="of each kind")
    arguments = parser.parse_args()
    taken = asyncio.run(_measure(arguments.requests))
    for what, seconds in taken.items():
        quartiles = [1e3 * value for value in statistics.quantiles(seconds, n=4)]
        first, middle, third = quartiles
        print(f"{what:13} median {middle:.3f} ms, quartiles {first:.3f} and {third:.3f}")


if __name__ == "__main__":
    main()
