"""Work beside a step leaves the step its threads."""

import torch

from inference_service.engine.background import background_executor


def test_torch_has_one_thread_there_and_as_many_as_before_elsewhere() -> None:
    before = torch.get_num_threads()
    with background_executor("test") as executor:
        assert executor.submit(torch.get_num_threads).result() == 1
    assert torch.get_num_threads() == before
