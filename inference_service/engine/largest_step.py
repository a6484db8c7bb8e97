"""The steps that take the most memory, run to see how much they take."""

import dataclasses

import torch

from inference_service.engine.config import EngineConfig
from inference_service.models.decoder import Decoder
from inference_service.models.spec import DecoderSpec
from kernels.layouts import CHUNK_ROWS, KvLayout, LoraPlan, TokenBatch, make_tiles


def run_largest_step(
    decoder: Decoder,
    spec: DecoderSpec,
    layout: KvLayout,
    config: EngineConfig,
    like: torch.Tensor,
    decodes: bool,
) -> None:
    """As many tokens as a step may have, or a token each of as many sequences as may decode; all
    of an adapter of the highest rank.

    Logits of as many sequences as may run are made and sorted, as sampling does. `like` tells
    device and dtype. All KV goes to one page and all chunks are read from it: an arena need not
    exist yet.
    """
    num_tokens = config.max_num_seqs if decodes else config.max_num_batched_tokens
    longest = config.max_model_len or spec.max_positions
    places = torch.arange(num_tokens, dtype=torch.int32, device=like.device)
    num_sequences = -(-num_tokens // longest)
    batch = TokenBatch(
        positions=places % longest,
        sequence=places // longest,
        block_tables=places.new_zeros(num_sequences, layout.num_blocks(longest)),
    )
    page = like.new_zeros(1, layout.page_elems)
    plan = _plan(num_tokens, config.max_lora_rank, spec, like.device)
    plan = dataclasses.replace(plan, num_single_rows=num_tokens if decodes else 0)
    hidden = decoder.forward(places * 0, batch, page, plan)
    num_rows = min(num_tokens, config.max_num_seqs)
    decoder.logits(hidden[:num_rows]).sort(dim=-1)


def _plan(num_tokens: int, rank: int, spec: DecoderSpec, device: torch.device) -> LoraPlan:
    """One adapter, every module of every layer at `rank`, every chunk at the arena's first page."""
    num_chunks = -(-rank // CHUNK_ROWS)
    descriptors = torch.zeros(1, spec.num_layers, len(spec.modules), 2, dtype=torch.int32)
    descriptors[..., 0] = rank
    return LoraPlan(
        rows=torch.arange(num_tokens, dtype=torch.int32),
        tiles=make_tiles([num_tokens]),
        descriptors=descriptors.to(device),
        chunk_offsets=torch.zeros(2 * num_chunks, dtype=torch.int64, device=device),
        max_rank=rank,
    )
