"""Sampling: ranges honoured, distributions right, and a seed decides alone."""

import pytest
import torch

from inference_service.engine.request import SamplingOptions, Submit
from inference_service.engine.sampler import sample
from inference_service.engine.sequence import Sequence

VOCABULARY = 50


def sequence(**options: float) -> Sequence:
    settings = SamplingOptions(**{"max_tokens": 100, **options})  # type: ignore[arg-type]
    return Sequence.from_submit(Submit(0, [1, 2, 3], settings))


def draw(logits: torch.Tensor, count: int, **options: float) -> list[int]:
    """`count` tokens of one request, always from the same logits."""
    request = sequence(**options)
    for _ in range(count):
        request.append(sample(logits.clone().unsqueeze(0), [request])[0])
    return request.token_ids[3:]


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(3)) * 2


def test_zero_temperature_is_greedy(logits: torch.Tensor) -> None:
    assert set(draw(logits, 5, temperature=0.0)) == {int(logits.argmax())}


@pytest.mark.parametrize("temperature", [1e-45, 1e-30, 1e-6, 1e-4])
def test_tiny_temperatures_are_greedy_too(logits: torch.Tensor, temperature: float) -> None:
    assert set(draw(logits * 100, 5, temperature=temperature)) == {int(logits.argmax())}


def test_frequencies_follow_the_softmax(logits: torch.Tensor) -> None:
    drawn = torch.tensor(draw(logits, 20_000, temperature=1.5, seed=1))
    frequencies = torch.bincount(drawn, minlength=VOCABULARY) / len(drawn)
    assert (frequencies - (logits / 1.5).softmax(0)).abs().max() < 0.015


def test_top_k_keeps_k(logits: torch.Tensor) -> None:
    assert set(draw(logits, 2000, top_k=4, seed=2)) == set(logits.topk(4).indices.tolist())


@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.9])
def test_top_p_keeps_the_smallest_sufficient_set(logits: torch.Tensor, top_p: float) -> None:
    probabilities, order = logits.softmax(0).sort(descending=True)
    count = int((probabilities.cumsum(0) < top_p).sum()) + 1
    assert set(draw(logits, 5000, top_p=top_p, seed=3)) == set(order[:count].tolist())


def test_a_seed_decides_whatever_else_is_in_the_batch(logits: torch.Tensor) -> None:
    alone = draw(logits, 10, seed=7)
    first, second = sequence(seed=7), sequence(seed=8, temperature=0.5)
    greedy = sequence(temperature=0.0)
    for _ in range(10):
        batch = [greedy, second, first]
        for request, token in zip(batch, sample(logits.repeat(3, 1), batch), strict=True):
            request.append(token)
    assert first.token_ids[3:] == alone
    assert second.token_ids[3:] != alone


def test_no_stop_token_before_min_tokens(logits: torch.Tensor) -> None:
    best = int(logits.argmax())
    options = SamplingOptions(temperature=0.0, max_tokens=9, min_tokens=3, stop_token_ids=(best,))
    request = Sequence.from_submit(Submit(0, [1], options))
    reasons = [request.append(sample(logits.clone().unsqueeze(0), [request])[0]) for _ in range(4)]
    assert reasons == ["", "", "", "stop"]
    assert request.token_ids[-1] == best
    assert best not in request.token_ids[:-1]
