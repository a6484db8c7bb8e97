"""Edits logits as requests ask: bias, penalties, no stop token yet; vLLM's formulae and order.

Only the few tokens concerned are touched, those of all rows at once. A row without edits costs
nothing, and no step looks through the tokens of the past again.
"""

from collections.abc import Sequence as Series

import numpy as np
import torch

from inference_service.engine.device_copy import to_device
from inference_service.engine.logit_edits import LogitEdits

_LARGEST = torch.finfo(torch.float32).max


def edit_logits(logits: torch.Tensor, edits: Series[LogitEdits | None]) -> None:
    """Edits logits [S, vocab] float32 in place: bias, then penalties, then the stop tokens."""
    edited = [(row, edit) for row, edit in enumerate(edits) if edit is not None]
    if edited:
        _add_bias(logits, edited)
        _penalize(logits, [(row, edit) for row, edit in edited if edit.penalizes])
        _mask_stops(logits, edited)


def _add_bias(logits: torch.Tensor, edited: list[tuple[int, LogitEdits]]) -> None:
    biased = [(row, edit) for row, edit in edited if len(edit.bias_ids)]
    if biased:
        rows, ids = _positions([(row, edit.bias_ids) for row, edit in biased], logits.device)
        biases = torch.from_numpy(np.concatenate([edit.biases for _, edit in biased]))
        logits[rows, ids] += to_device(biases, logits.device)


def _penalize(logits: torch.Tensor, penalized: list[tuple[int, LogitEdits]]) -> None:
    """Repetition for tokens of prompt and output; frequency and presence for the output's."""
    if not penalized:
        return
    rows, ids = _positions([(row, edit.counts.ids) for row, edit in penalized], logits.device)
    lengths = [len(edit.counts.ids) for _, edit in penalized]
    repetition, frequency, presence = (
        np.repeat(np.array(values, dtype=np.float32), lengths)
        for values in zip(*(edit.penalties for _, edit in penalized), strict=True)
    )
    counts = np.concatenate([edit.counts.num_output for _, edit in penalized])
    subtracted = frequency * counts.astype(np.float32) + presence * (counts > 0)
    changes = torch.from_numpy(np.stack([repetition, subtracted]))
    factors, terms = to_device(changes, logits.device)
    values = logits[rows, ids]
    values = torch.where(values > 0, values / factors, values * factors) - terms
    # A penalty can overflow; the largest number there is does as well as infinity.
    logits[rows, ids] = values.clamp_(-_LARGEST, _LARGEST)


def _mask_stops(logits: torch.Tensor, edited: list[tuple[int, LogitEdits]]) -> None:
    masked = [(row, edit.masked_ids) for row, edit in edited if len(edit.masked_ids)]
    if masked:
        logits[_positions(masked, logits.device)] = float("-inf")


def _positions(
    ids: list[tuple[int, np.ndarray]], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows [N], token ids [N]) of each row's ids, which do not repeat within a row."""
    rows = np.repeat([row for row, _ in ids], [len(row_ids) for _, row_ids in ids])
    pairs = torch.from_numpy(np.stack([rows, np.concatenate([row_ids for _, row_ids in ids])]))
    rows_on_device, ids_on_device = to_device(pairs, device)
    return rows_on_device, ids_on_device
