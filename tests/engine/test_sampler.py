"""Sampling: held to a naive reference, distributions right, and a seed decides alone."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.engine import sampler
from inference_service.engine.request import SamplingOptions, Submit
from inference_service.engine.sampler import sample
from inference_service.engine.sequence import Sequence
from tests.engine.sampling_reference import distribution

VOCABULARY = 50
PROMPT = [1, 2, 3, 2]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def sequence(output: list[int] | None = None, **options: Any) -> Sequence:
    made = Sequence.from_submit(Submit(0, PROMPT, SamplingOptions(max_tokens=100, **options)))
    for token_id in output or []:
        made.append(token_id)
    return made


def draw(logits: torch.Tensor, count: int, **options: Any) -> list[int]:
    """`count` tokens of one request, always from the same logits."""
    request = sequence(**options)
    for _ in range(count):
        request.append(int(sample(logits.clone().unsqueeze(0), [request])))
    return request.token_ids[len(PROMPT) :]


def random_logits(seed: int, size: int = VOCABULARY) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.fixture
def logits() -> torch.Tensor:
    return random_logits(3)


tokens = st.integers(0, 9)  # few, so that they repeat
penalties = st.one_of(st.just(0.0), st.floats(-2, 2, width=32))
any_options = st.fixed_dictionaries(
    {"temperature": st.one_of(st.just(0.0), st.floats(0.125, 3, width=32))},
    optional={
        "top_p": st.floats(0.0625, 1, width=32),
        "top_k": st.integers(0, VOCABULARY + 5),
        "min_p": st.floats(0, 1, width=32),
        "repetition_penalty": st.floats(0.25, 2, width=32),
        "presence_penalty": penalties,
        "frequency_penalty": penalties,
        "logit_bias": st.dictionaries(tokens, st.floats(-100, 100, width=32), max_size=4),
        "stop_token_ids": st.lists(tokens, max_size=3, unique=True).map(tuple),
        "min_tokens": st.integers(0, 4),
        "seed": st.integers(0, 2**64 - 1),
    },
)
any_output = st.lists(tokens, max_size=8)


@settings(max_examples=150, deadline=None)
@given(any_options, any_output, st.integers(0, 10**6))
def test_any_settings_draw_as_the_reference_does(
    options: dict[str, Any], output: list[int], seed: int
) -> None:
    assert_draws_as_the_reference(options, output, seed)


@pytest.mark.parametrize(
    ("options", "output"),
    [
        ({"frequency_penalty": 1.5}, [4, 4, 4, 5]),
        ({"presence_penalty": -1.5}, [4, 4, 4, 5]),
        ({"repetition_penalty": 1.75}, [4, 4, 5]),
        # The bias comes first: it decides which way a repetition penalty works.
        ({"repetition_penalty": 1.75, "logit_bias": {1: 5.0, 2: -5.0, 4: 5.0, 5: -5.0}}, [4, 5]),
        ({"temperature": 2.0, "min_p": 0.5, "top_k": 20, "top_p": 0.75}, []),
    ],
)
def test_each_setting_draws_as_the_reference_does(
    options: dict[str, Any], output: list[int]
) -> None:
    assert_draws_as_the_reference(options, output, seed=8)


def assert_draws_as_the_reference(options: dict[str, Any], output: list[int], seed: int) -> None:
    """The token drawn at a uniform number is the one whose share of the reference's CDF has it."""
    logits = random_logits(seed) / 2  # flat, so that every change moves the borders
    uniform = torch.linspace(0, 0.9999, 500).double()
    requests = [sequence(output, **options)] * len(uniform)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler, "_uniform", lambda *_: uniform.unsqueeze(1))
        drawn = sample(logits.repeat(len(uniform), 1), requests)
    expected = distribution(logits.tolist(), PROMPT, output, requests[0].sampling)
    share = torch.tensor(expected).double()
    end = share.cumsum(0)
    assert bool((share[drawn] > 0).all())
    assert bool((end[drawn] - share[drawn] - 1e-6 <= uniform).all())
    assert bool((uniform <= end[drawn] + 1e-6).all())


def test_top_p_takes_no_token_more_than_it_needs() -> None:
    """Where the first tokens have exactly the share that is asked for."""
    weights = torch.tensor([[2, 4, 1, 1], [1, 1, 4, 2]])
    for share, least in ((4, 4), (5, 2), (6, 2), (7, 1)):
        wanted = torch.full((2, 1), share)
        assert sampler._nucleus_threshold(weights, wanted).tolist() == [[least], [least]]
        assert sampler._nucleus_threshold(weights, wanted, guess=1).tolist() == [[least], [least]]


def test_zero_temperature_is_greedy(logits: torch.Tensor) -> None:
    assert set(draw(logits, 5, temperature=0.0)) == {int(logits.argmax())}


@pytest.mark.parametrize("temperature", [1e-45, 1e-30, 1e-6, 1e-4])
def test_tiny_temperatures_are_greedy_too(logits: torch.Tensor, temperature: float) -> None:
    assert set(draw(logits * 100, 5, temperature=temperature)) == {int(logits.argmax())}


def test_frequencies_follow_the_softmax_over_a_request(logits: torch.Tensor) -> None:
    drawn = torch.tensor(draw(logits, 10_000, temperature=1.5, seed=1))
    assert_drawn_from((logits / 1.5).softmax(0), drawn)


@pytest.mark.parametrize("first_seed", [0, 2**63])
def test_frequencies_follow_the_softmax_over_seeds(logits: torch.Tensor, first_seed: int) -> None:
    requests = [sequence(temperature=1.5, seed=first_seed + seed) for seed in range(20_000)]
    drawn = sample(logits.repeat(len(requests), 1), requests)
    assert_drawn_from((logits / 1.5).softmax(0), drawn)


def assert_drawn_from(probabilities: torch.Tensor, drawn: torch.Tensor) -> None:
    """Pearson's test, six deviations wide, over bins (token mod 50) expected ten times or more."""
    bins = torch.arange(len(probabilities)) % 50
    expected = torch.bincount(bins, probabilities * len(drawn))
    often = expected >= 10
    counts = torch.bincount(drawn % 50, minlength=50)
    statistic = ((counts - expected) ** 2 / expected)[often].sum()
    freedom = int(often.sum())
    assert statistic < freedom + 6 * (2 * freedom) ** 0.5
    assert counts[~often].sum() < 2 * expected[~often].sum() + 20


def test_uniform_numbers_are_uniform_and_unrelated() -> None:
    """Over neighbouring seeds and neighbouring positions alike."""
    requests = [sequence([0] * position, seed=s) for s in range(300) for position in range(30)]
    numbers = sampler._uniform(requests, torch.device("cpu")).reshape(300, 30).numpy()
    assert 0 <= numbers.min() < 1e-3
    assert 1 - 1e-3 < numbers.max() < 1
    histogram = np.histogram(numbers, bins=20, range=(0, 1))[0] / numbers.size
    assert abs(histogram - 1 / 20).max() < 0.01
    for axis in (0, 1):
        first, second = np.split(numbers[:, :30], 2, axis=axis)
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05
        near = np.diff(numbers, axis=axis)
        assert abs((near > 0).mean() - 0.5) < 0.02


def test_top_k_keeps_k(logits: torch.Tensor) -> None:
    assert set(draw(logits, 2000, top_k=4, seed=2)) <= set(logits.topk(4).indices.tolist())


@pytest.mark.parametrize("options", [{"top_k": 2}, {"top_p": 0.5}, {"min_p": 1.0}])
def test_of_equals_all_are_kept(options: dict[str, Any]) -> None:
    """Which of them a sort or a `topk` puts first is not for the answer to depend on."""
    logits = torch.full((400,), -50.0)
    logits[[7, 300, 20, 21, 22]] = 1.0
    requests = [sequence(seed=seed, **options) for seed in range(300)]
    drawn = sample(logits.repeat(len(requests), 1), requests)
    assert set(drawn.tolist()) == {7, 300, 20, 21, 22}


@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.9])
@pytest.mark.parametrize("size", [50, 3000])  # 3000: nuclei beyond the sampler's first guess
def test_top_p_keeps_the_smallest_sufficient_set(size: int, top_p: float) -> None:
    logits = random_logits(5, size) / 3
    probabilities, order = logits.double().softmax(0).sort(descending=True)
    count = int((probabilities.cumsum(0) < top_p).sum()) + 1
    requests = [sequence(top_p=top_p, seed=seed) for seed in range(1000)]
    drawn = sample(logits.repeat(len(requests), 1), requests)
    assert set(drawn.tolist()) <= set(order[:count].tolist())
    kept = torch.zeros(size).double()
    kept[order[:count]] = probabilities[:count]
    assert_drawn_from(kept / kept.sum(), drawn)


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=60, deadline=None)
@given(
    made=st.lists(st.tuples(any_options, any_output), min_size=2, max_size=8),
    seed=st.integers(0, 10**6),
)
def test_a_row_is_what_it_is_alone(
    device: str, made: list[tuple[dict[str, Any], list[int]]], seed: int
) -> None:
    # Rounded as bfloat16 rounds, so that many are equal.
    logits = random_logits(seed, len(made) * 331).bfloat16().float()
    logits = logits.reshape(len(made), 331).to(device)
    together = sample(logits.clone(), [sequence(out, **options) for options, out in made])
    for row, (options, out) in enumerate(made):
        alone = sample(logits[row : row + 1].clone(), [sequence(out, **options)])
        assert together[row] == alone[0]


def test_large_batches_in_slices_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logits = random_logits(9, 40 * VOCABULARY).reshape(40, VOCABULARY)
    requests = [sequence(seed=seed, top_p=0.8) for seed in range(40)]
    whole = sample(logits.clone(), requests)
    monkeypatch.setattr("inference_service.engine.row_slices._MAX_ELEMENTS", 3 * VOCABULARY)
    assert torch.equal(sample(logits.clone(), requests), whole)


def test_no_stop_token_before_min_tokens(logits: torch.Tensor) -> None:
    best = int(logits.argmax())
    request = sequence(temperature=0.0, min_tokens=3, stop_token_ids=(best,))
    reasons = [request.append(int(sample(logits.clone()[None], [request]))) for _ in range(4)]
    assert reasons == ["", "", "", "stop"]
    assert request.token_ids[-1] == best
    assert best not in request.token_ids[:-1]


@pytest.mark.parametrize(("sign", "factor"), [(1, 1e-10), (-1, 1e10)])
def test_a_penalty_that_overflows_leaves_a_distribution(
    logits: torch.Tensor, sign: int, factor: float
) -> None:
    """All tokens are as likely or unlikely as a number can say: then any of them comes."""
    large = sign * (logits.abs() + 1) * 1e36
    requests = [
        sequence(list(range(VOCABULARY)), repetition_penalty=factor, seed=seed)
        for seed in range(200)
    ]
    drawn = sample(large.repeat(len(requests), 1), requests)
    assert len(set(drawn.tolist())) > 40


def test_rows_that_are_not_finite_leave_the_others_alone(logits: torch.Tensor) -> None:
    options = {"temperature": 0.7, "top_k": 5, "top_p": 0.9, "presence_penalty": 1.0}
    rows = logits.repeat(4, 1)
    rows[1], rows[2, 4], rows[3] = float("nan"), float("inf"), float("-inf")
    drawn = sample(rows, [sequence([5], **options) for _ in range(4)])
    assert drawn[0] == sample(logits[None].clone(), [sequence([5], **options)])[0]
    assert bool(((drawn >= 0) & (drawn < VOCABULARY)).all())
