"""Before anything imports Triton: without a GPU its kernels run in its interpreter."""

import os

import torch
from hypothesis import settings

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# No deadline: how long an example takes says more about the machine than the code. CI draws the
# same examples each time, so that a change is not blamed for what it did not do.
settings.register_profile("project", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("project")
