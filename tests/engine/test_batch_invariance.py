"""A request's logits are the same to the bit whatever is computed beside it, on the C kernels."""

from pathlib import Path

import pytest
import torch

from inference_service.engine.adapter_cache import ResidentAdapter
from inference_service.engine.config import EngineConfig
from inference_service.engine.model_runner import ModelRunner
from inference_service.engine.page_pool import PagePool, PageUse
from inference_service.engine.step_input import StepInput
from kernels.cpu.build import has_amx
from tests.engine.mixed import make_resident, mixed_logits


class Runner:
    """A model with all adapters resident; runs prompts alone, in pieces or whole."""

    def __init__(self, model_path: Path, paths: dict[str, Path], dtype: str) -> None:
        # float32 or bfloat16; the parameter says so.
        config = EngineConfig(str(model_path), dtype=dtype, memory_bytes=8 << 20)  # type: ignore[arg-type]
        self.runner = ModelRunner(config)
        self.pool = PagePool(self.runner.arena.shape[0])
        self.adapters = make_resident(self.runner, self.pool, paths)

    def mixed(self) -> tuple[dict[str, list[int]], dict[str, torch.Tensor]]:
        return mixed_logits(self.runner, self.adapters, self.pool)

    def solo(self, name: str, tokens: list[int], piece: int) -> torch.Tensor:
        """The last token's logits when `piece` tokens of the prompt are computed at a time."""
        adapter: ResidentAdapter | None = self.adapters[name]
        num_blocks = self.runner.layout.num_blocks(len(tokens))
        table = self.pool.allocate(num_blocks, PageUse.KV)
        for start in range(0, len(tokens), piece):
            part = tokens[start : start + piece]
            last = start + piece >= len(tokens)
            result = self.runner.run([StepInput(part, start, table, adapter, last)])
        return result.logits[0]


@pytest.fixture(params=["float32", "bfloat16"])
def runner(
    request: pytest.FixtureRequest, model_path: Path, adapter_paths: dict[str, Path]
) -> Runner:
    if request.param == "bfloat16" and has_amx():
        pytest.skip("oneDNN multiplies with AMX tiles here, and promises no such thing")
    return Runner(model_path, adapter_paths, request.param)


def test_a_mixed_batch_gives_each_request_what_it_gets_alone(runner: Runner) -> None:
    prompts, logits = runner.mixed()
    for name, tokens in prompts.items():
        for piece in (len(tokens), 17, 1):  # whole, in chunks, and as if every token was decoded
            alone = runner.solo(name, tokens, piece)
            assert torch.equal(alone, logits[name]), (name, piece)


def test_every_row_of_a_step_is_the_same_alone(runner: Runner) -> None:
    """The hidden states of all tokens, not of the last ones only."""
    name, tokens = "r12", list(range(2, 80))
    table = runner.pool.allocate(runner.runner.layout.num_blocks(80), PageUse.KV)
    adapter = runner.adapters[name]
    whole = runner.runner.run([StepInput(tokens, 0, table, adapter, True)]).hidden
    for position in (0, 1, 5, 33, 76):
        step = StepInput([tokens[position]], position, table, adapter, True)
        assert torch.equal(runner.runner.run([step]).hidden[0], whole[position]), position
