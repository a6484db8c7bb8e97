"""How likely tokens were by the model itself: before bias, penalties, temperature and truncation,
as vLLM's "raw_logprobs". A row's figures do not depend on the rows beside it, to the last bit."""

from collections.abc import Sequence as Series

import torch

from inference_service.engine.device_copy import HostCopy
from inference_service.engine.request import TokenLogprob
from inference_service.engine.row_slices import row_slices
from inference_service.engine.weights import ONE, relative_to_highest, weigh

_LOW_BITS = (1 << 32) - 1


class LogprobCopy:
    """Logprobs on their way to the host: parts of (ids [R, 1 + k], logprobs likewise, ranks [R])
    and how many of the likeliest tokens each row is to name."""

    def __init__(self, parts: Series[tuple[HostCopy, Series[int]]]) -> None:
        self._parts = parts

    def wait(self) -> list[TokenLogprob]:
        """One for each row, when they have arrived."""
        return [found for part in self._parts for found in _told(*part)]


def token_logprobs(
    logits: torch.Tensor, token_ids: torch.Tensor, num_top: Series[int]
) -> list[TokenLogprob]:
    """See `copy_logprobs`."""
    return copy_logprobs(logits, token_ids, num_top).wait()


@torch.inference_mode()
def copy_logprobs(
    logits: torch.Tensor, token_ids: torch.Tensor, num_top: Series[int]
) -> LogprobCopy:
    """One for each row of logits [R, vocab] float32 and its token in token_ids [R] int64; those of
    rows that are not finite mean nothing.

    `num_top`: for each row, how many of the likeliest tokens to name, likeliest first; of equals
    the lower id comes first. The device is not waited for.
    """
    slices = row_slices(*logits.shape)
    return LogprobCopy(
        [(_find(logits[rows], token_ids[rows], num_top[rows]), num_top[rows]) for rows in slices]
    )


def _find(logits: torch.Tensor, token_ids: torch.Tensor, num_top: Series[int]) -> HostCopy:
    chosen = token_ids.unsqueeze(1)
    top_ids = _likeliest(logits, max(num_top))
    ids = torch.cat([chosen, top_ids], dim=1)
    relative = relative_to_highest(logits)
    # The sum is of integers; in float64 it is exact enough for any vocabulary.
    log_total = (weigh(relative).sum(dim=-1, keepdim=True).double() / ONE).log()
    logprobs = relative.gather(1, ids).double() - log_total
    ranks = 1 + (logits > logits.gather(1, chosen)).sum(dim=-1)
    return HostCopy([ids, logprobs.float(), ranks])


def _told(copy: HostCopy, num_top: Series[int]) -> list[TokenLogprob]:
    ids, logprobs, ranks = (found.tolist() for found in copy.wait())
    return [
        TokenLogprob(row_ids[0], row_logprobs[0], rank, row_ids[1 : k + 1], row_logprobs[1 : k + 1])
        for row_ids, row_logprobs, rank, k in zip(ids, logprobs, ranks, num_top, strict=True)
    ]


def _likeliest(logits: torch.Tensor, count: int) -> torch.Tensor:
    """Token ids [R, count], highest logit first, of equals the lower id.

    `topk` picks any of equals, so it is given integers that are never equal: the logit's bits, in
    an order-preserving form, above the bits of how far the id is from the last.
    """
    if count == 0:
        return torch.empty(len(logits), 0, dtype=torch.int64, device=logits.device)
    bits = (logits + 0.0).view(torch.int32)  # there is no -0.0 after adding 0.0
    ascending = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    ids = torch.arange(logits.shape[1], device=logits.device)
    keys = ascending.long().mul_(1 << 32).add_(_LOW_BITS - ids)
    count = min(count, logits.shape[1])
    return _LOW_BITS - (keys.topk(count).values & _LOW_BITS)
