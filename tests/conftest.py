"""Where the tests run: on the CPU, Triton's kernels in its interpreter; tests/gpu on a GPU.

Before anything imports Triton or looks for a GPU. `make test-gpu` sets TRITON_INTERPRET=0.
"""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.backends import Backends

if os.environ.setdefault("TRITON_INTERPRET", "1") != "0":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the same tests everywhere, also where there is one

# Only when asked for: they fail where there is no GPU, or no servers can be had, or take long.
collect_ignore = ["chaos", "gpu", "integration"]

# No deadline: how long an example takes says more about the machine than the code. CI draws the
# same examples each time, so that a change is not blamed for what it did not do.
settings.register_profile("project", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("project")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        action="append",
        default=[],
        choices=["postgres15-s3", "postgres18-s3-tls"],
        help="run the tests that need a registry on this one, and no others; may be repeated",
    )


@pytest.fixture(scope="session")
def backends() -> "Iterator[Backends]":
    """Real servers, started for the first test that needs them."""
    from tests.backends import Backends
    from tests.servers.everything import running_servers

    with running_servers() as servers:
        yield Backends(servers)
