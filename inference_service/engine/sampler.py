"""One token per row of logits. What a request draws depends on its seed and on nothing else in
the batch: its k-th uniform number is a function of (seed, k) alone."""

from collections.abc import Sequence as Series

import numpy as np
import torch

from inference_service.engine.sequence import Sequence

# Below this temperature nothing but the most likely token has a chance, as in vLLM.
_GREEDY_BELOW = 1e-5


def sample(logits: torch.Tensor, sequences: Series[Sequence]) -> list[int]:
    """logits [S, vocab] float32, finite, one row per sequence; may be overwritten.

    Returns S token ids.
    """
    _mask_stops(logits, sequences)
    token_ids: list[int] = logits.argmax(dim=-1).tolist()
    rows = [row for row, s in enumerate(sequences) if s.sampling.temperature >= _GREEDY_BELOW]
    if rows:
        drawn = _draw(logits[rows], [sequences[row] for row in rows])
        for row, token_id in zip(rows, drawn.tolist(), strict=True):
            token_ids[row] = token_id
    return token_ids


def _mask_stops(logits: torch.Tensor, sequences: Series[Sequence]) -> None:
    """No stop token before min_tokens."""
    for row, sequence in enumerate(sequences):
        if sequence.num_output < sequence.sampling.min_tokens and sequence.stop_token_ids:
            logits[row, list(sequence.stop_token_ids)] = float("-inf")


def _draw(logits: torch.Tensor, sequences: Series[Sequence]) -> torch.Tensor:
    """Inverse-CDF sampling over temperature, then top-k, then top-p, as vLLM orders them."""

    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, device=logits.device).unsqueeze(1)

    options = [sequence.sampling for sequence in sequences]
    # Relative to the highest, so that a low temperature cannot make two infinities.
    relative = logits - logits.amax(dim=-1, keepdim=True)
    scaled = relative / column([option.temperature for option in options])
    ordered, token_ids = scaled.sort(dim=-1, descending=True, stable=True)
    ranks = torch.arange(ordered.shape[1], device=logits.device)
    top_k = column([float(option.top_k or ordered.shape[1]) for option in options])
    probabilities = ordered.masked_fill(ranks >= top_k, float("-inf")).softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    # The most likely token is kept whatever top_p is.
    outside = (before >= column([option.top_p for option in options])) & (ranks > 0)
    cumulative = probabilities.masked_fill(outside, 0.0).cumsum(dim=-1)
    draws = column([_uniform(sequence) for sequence in sequences]).float()
    chosen = torch.searchsorted(cumulative, draws * cumulative[:, -1:], right=True)
    kept = (~outside & (probabilities > 0)).sum(dim=-1, keepdim=True)
    return token_ids.gather(1, torch.minimum(chosen, kept - 1)).squeeze(1)


def _uniform(sequence: Sequence) -> float:
    """In [0, 1); counter-based, so a preempted request draws the same numbers again."""
    bits = np.random.Philox(key=sequence.sampling.seed, counter=sequence.num_output)
    return float(np.random.Generator(bits).random())
