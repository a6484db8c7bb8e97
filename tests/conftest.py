"""Where the tests run: on the CPU, Triton's kernels in its interpreter; tests/gpu on a GPU.

Before anything imports Triton or looks for a GPU. `make test-gpu` sets TRITON_INTERPRET=0.
"""

import os

from hypothesis import settings

if os.environ.setdefault("TRITON_INTERPRET", "1") != "0":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the same tests everywhere, also where there is one

# Only when asked for: they fail where there is no GPU, or no servers can be had.
collect_ignore = ["gpu", "integration"]

# No deadline: how long an example takes says more about the machine than the code. CI draws the
# same examples each time, so that a change is not blamed for what it did not do.
settings.register_profile("project", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("project")
