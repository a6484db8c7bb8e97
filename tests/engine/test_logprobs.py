"""Logprobs: the model's own, held to float64, ranked and listed the same in any batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.engine.logprobs import token_logprobs
from tests.engine.sampling_reference import log_softmax

VOCABULARY = 61
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def random_logits(seed: int, num_rows: int) -> torch.Tensor:
    """Rounded as bfloat16 rounds, so that many are equal; both zeros among them."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_rows, VOCABULARY, generator=generator).mul(8).bfloat16().float()
    logits[:, 5], logits[:, 20:24] = -0.0, 0.0
    return logits


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    asked=st.lists(
        st.tuples(st.integers(0, VOCABULARY - 1), st.integers(0, VOCABULARY + 3)),
        min_size=1,
        max_size=6,
    ),
)
def test_figures_are_the_references_and_those_of_the_row_alone(
    device: str, seed: int, asked: list[tuple[int, int]]
) -> None:
    logits = random_logits(seed, len(asked)).to(device)
    token_ids = torch.tensor([token for token, _ in asked], device=device)
    num_top = [count for _, count in asked]
    found = token_logprobs(logits, token_ids, num_top)
    for row, (token, count) in enumerate(asked):
        values = logits[row].tolist()
        expected = log_softmax(values)
        assert found[row].token_id == token
        assert found[row].logprob == pytest.approx(expected[token], abs=1e-5)
        assert found[row].rank == 1 + sum(value > values[token] for value in values)
        order = sorted(range(VOCABULARY), key=lambda t: (-values[t], t))
        assert found[row].top_ids == order[:count]
        assert found[row].top_logprobs == pytest.approx(
            [expected[t] for t in order[:count]], abs=1e-5
        )
        alone = slice(row, row + 1)
        assert token_logprobs(logits[alone], token_ids[alone], num_top[alone]) == [found[row]]


def test_slices_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, token_ids = random_logits(1, 20), torch.arange(20)
    whole = token_logprobs(logits, token_ids, [3] * 20)
    monkeypatch.setattr("inference_service.engine.row_slices._MAX_ELEMENTS", 7 * VOCABULARY)
    assert token_logprobs(logits, token_ids, [3] * 20) == whole


def test_a_certain_token_and_an_impossible_one() -> None:
    logits = torch.full((2, VOCABULARY), -1e4)
    logits[:, 9] = 1e4
    sure, never = token_logprobs(logits, torch.tensor([9, 10]), [1, 1])
    assert (sure.logprob, sure.rank, sure.top_ids) == (0.0, 1, [9])
    assert (never.logprob, never.rank) == (-2e4, 2)
