"""Why engines end is told apart."""

import numpy as np
import pytest
import torch

from inference_service.engine.ends import END_REASONS, OUT_OF_MEMORY_STATUS, ended_by_itself
from inference_service.engine.out_of_memory import is_out_of_memory

_TOO_MUCH = 1 << 50


def test_an_exit_status_says_why() -> None:
    statuses = (OUT_OF_MEMORY_STATUS, -9, 1)
    reasons = [ended_by_itself(status).reason for status in statuses]
    assert reasons == ["out_of_memory", "killed", "failed"]
    assert set(reasons) < set(END_REASONS)


def test_want_of_memory_is_known_as_the_libraries_tell_it() -> None:
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(_TOO_MUCH, dtype=torch.uint8)
    with pytest.raises(MemoryError) as of_numpy:
        np.empty(_TOO_MUCH, dtype=np.uint8)
    assert is_out_of_memory(of_torch.value)
    assert is_out_of_memory(of_numpy.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
