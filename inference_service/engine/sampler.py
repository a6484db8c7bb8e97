"""One token per row of logits. What a request draws depends on its seed and on nothing else in
the batch: its k-th uniform number is a function of (seed, k) alone, and rows never mix.

The order is vLLM's: logit bias, penalties, no stop token before min_tokens, temperature, min_p,
top_k, top_p. The last three keep every token that is at least as likely as the least likely one
they must keep: of equals, all or none.
"""

from collections.abc import Sequence as Series

import numpy as np
import torch

from inference_service.engine.device_copy import to_device
from inference_service.engine.logit_editor import edit_logits
from inference_service.engine.row_slices import row_slices
from inference_service.engine.sequence import Sequence
from inference_service.engine.weights import ONE, relative_to_highest, weigh

# Below this temperature nothing but the most likely token has a chance, as in vLLM.
_GREEDY_BELOW = 1e-5
# Most nuclei (top_p) have fewer tokens, which are found much faster than all are sorted.
_NUCLEUS_GUESS = 256


@torch.inference_mode()
def sample(logits: torch.Tensor, sequences: Series[Sequence]) -> torch.Tensor:
    """logits [S, vocab] float32, one row per sequence; may be overwritten.

    Returns token ids [S] int64 on the same device; those of rows that are not finite mean nothing.
    """
    edit_logits(logits, [sequence.edits for sequence in sequences])
    rows = [row for row, s in enumerate(sequences) if s.sampling.temperature >= _GREEDY_BELOW]
    if not rows:
        return logits.argmax(dim=-1)
    if len(rows) == len(sequences):
        return _draw(logits, sequences)
    drawn = _draw(_take(logits, rows), [sequences[row] for row in rows])
    return _put(logits.argmax(dim=-1), rows, drawn)


def _draw(logits: torch.Tensor, sequences: Series[Sequence]) -> torch.Tensor:
    slices = row_slices(*logits.shape)
    return torch.cat([_draw_slice(logits[rows], sequences[rows]) for rows in slices])


def _draw_slice(logits: torch.Tensor, sequences: Series[Sequence]) -> torch.Tensor:
    """Inverse-CDF sampling, in the order of token ids, over what is kept of the distribution."""
    options = [sequence.sampling for sequence in sequences]
    temperature = _column([option.temperature for option in options], torch.float32, logits)
    weights = weigh(relative_to_highest(logits).div_(temperature))
    if any(option.min_p > 0 for option in options):
        least = _column([int(option.min_p * ONE) for option in options], torch.int64, logits)
        weights = torch.where(weights >= least, weights, 0)
    weights = _keep_top_k(weights, [option.top_k for option in options])
    weights = _keep_top_p(weights, [option.top_p for option in options])
    cumulative = weights.cumsum(dim=-1)
    total = cumulative[:, -1:]
    # Rounded, the product can be the total itself.
    target = (_uniform(sequences, logits.device) * total).long().minimum(total - 1)
    # A row that is not finite has no total; its token is some token all the same.
    chosen = torch.searchsorted(cumulative, target, right=True).squeeze(1)
    return chosen.clamp_(max=logits.shape[1] - 1)


def _keep_top_k(weights: torch.Tensor, top_k: list[int]) -> torch.Tensor:
    counts = [min(k or weights.shape[1], weights.shape[1]) for k in top_k]
    rows = [row for row, count in enumerate(counts) if count < weights.shape[1]]
    if not rows:
        return weights
    subset = _take(weights, rows)
    counts = [counts[row] for row in rows]
    highest = subset.topk(max(counts)).values
    threshold = highest.gather(1, _column(counts, torch.int64, weights) - 1)
    return _put(weights, rows, torch.where(subset >= threshold, subset, 0))


def _keep_top_p(weights: torch.Tensor, top_p: list[float]) -> torch.Tensor:
    rows = [row for row, p in enumerate(top_p) if p < 1]
    if not rows:
        return weights
    subset = _take(weights, rows)
    shares = _column([top_p[row] for row in rows], torch.float64, weights)
    total = subset.sum(dim=-1, keepdim=True)
    threshold = _nucleus_threshold(subset, (shares * total).ceil().long().minimum(total))
    return _put(weights, rows, torch.where(subset >= threshold, subset, 0))


def _take(values: torch.Tensor, rows: list[int]) -> torch.Tensor:
    """The rows, ascending, without a copy when they are all there are."""
    if len(rows) == len(values):
        return values
    return values.index_select(0, to_device(torch.tensor(rows), values.device))


def _put(values: torch.Tensor, rows: list[int], changed: torch.Tensor) -> torch.Tensor:
    """`values` with the rows, ascending, changed."""
    if len(rows) == len(values):
        return changed
    return values.index_copy_(0, to_device(torch.tensor(rows), values.device), changed)


def _nucleus_threshold(
    weights: torch.Tensor, wanted: torch.Tensor, guess: int = _NUCLEUS_GUESS
) -> torch.Tensor:
    """[R, 1]: the least weight of the fewest tokens that together weigh `wanted` [R, 1].

    Looks at the `guess` heaviest, and at more where those are not enough.
    """
    highest = weights.topk(min(guess, weights.shape[1])).values
    threshold = _last_needed(highest, wanted)
    is_larger = (highest.sum(dim=-1) < wanted.squeeze(1)).nonzero().squeeze(1)
    if len(is_larger):
        threshold[is_larger] = _nucleus_threshold(weights[is_larger], wanted[is_larger], 16 * guess)
    return threshold


def _last_needed(ordered: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """[R, 1]: the weight with which the sum over `ordered`, highest first, reaches `wanted`."""
    before = ordered.cumsum(dim=-1) - ordered
    num_needed = (before < wanted).sum(dim=-1, keepdim=True)
    return ordered.gather(1, (num_needed - 1).clamp_(min=0))  # none in a row that is not finite


def _column(
    values: Series[float] | Series[int], dtype: torch.dtype, like: torch.Tensor
) -> torch.Tensor:
    return to_device(torch.tensor(values, dtype=dtype), like.device).unsqueeze(1)


def _uniform(sequences: Series[Sequence], device: torch.device) -> torch.Tensor:
    """[R, 1] float64 in [0, 1); counter-based, so a preempted request draws the same again."""
    seeds = np.array([sequence.sampling.seed for sequence in sequences], dtype=np.uint64)
    counters = np.array([sequence.num_output for sequence in sequences], dtype=np.uint64)
    bits = _mix(_mix(seeds) + (counters + np.uint64(1)) * _GOLDEN)
    return to_device(torch.from_numpy((bits >> np.uint64(11)) * 2.0**-53), device).unsqueeze(1)


_Bits = np.ndarray[tuple[int], np.dtype[np.uint64]]
# SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(state: _Bits) -> _Bits:
    """A bijection of 64 bits in which every input bit changes about half of the output's."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
