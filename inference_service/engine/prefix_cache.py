"""KV that outlives its request: full blocks of tokens, found again by what they were computed from.

A block's key is a chain of hashes: tenant, base model and adapter digest at its root, then the
tokens of each block up to its own. Nothing that differs in any of them can meet.
"""

import hashlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

from inference_service.engine.eviction import Evictable, EvictionQueue, RebuildCosts
from inference_service.engine.page_pool import PagePool, PageUse
from inference_service.engine.sequence import Sequence


@dataclass(eq=False, kw_only=True)
class CachedBlock(Evictable):
    """One page of KV under its key. Its page is KV while it has users, CACHED otherwise.

    A dropped one has users, and lost its key.
    """

    key: bytes
    page: int
    tenant: str
    adapter_digest: str
    num_users: int = 1
    is_dropped: bool = False


class PrefixKeys:
    """Keys of the full blocks of sequences of one base model."""

    def __init__(self, salt: bytes, base_model: str, block_tokens: int) -> None:
        self._salt, self._base_model = salt, base_model
        self._block_tokens = block_tokens

    def extend(self, sequence: Sequence, num_blocks: int) -> list[bytes]:
        """The sequence's first `num_blocks` keys; each is computed once and kept with it."""
        keys = sequence.block_keys
        while len(keys) < num_blocks:
            start = len(keys) * self._block_tokens
            tokens = array("i", sequence.token_ids[start : start + self._block_tokens])
            before = keys[-1] if keys else self._root(sequence)
            keys.append(hashlib.sha256(before + tokens.tobytes()).digest())
        return keys[:num_blocks]

    def _root(self, sequence: Sequence) -> bytes:
        digest = hashlib.sha256(self._salt)
        for part in (sequence.tenant, self._base_model, sequence.adapter_digest):
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
        return digest.digest()


class PrefixCache:
    """Blocks by key. Those without users are evicted in the arena's common order."""

    def __init__(self, pool: PagePool, idle: EvictionQueue, costs: RebuildCosts) -> None:
        self._pool, self._idle, self._costs = pool, idle, costs
        self._by_key: dict[bytes, CachedBlock] = {}
        self._by_page: dict[int, CachedBlock] = {}

    def match(self, keys: Iterable[bytes]) -> list[CachedBlock]:
        """The longest run of leading keys whose blocks are here."""
        blocks = []
        for key in keys:
            block = self._by_key.get(key)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def insert(self, key: bytes, page: int, depth: int, sequence: Sequence) -> None:
        """Offers a sequence's full block; the first of two equal blocks stays the cached one."""
        if key in self._by_key:
            return
        block = CachedBlock(
            key=key,
            page=page,
            depth=depth,
            tenant=sequence.tenant,
            adapter_digest=sequence.adapter_digest,
            num_pages=1,
        )
        self._idle.touch(block, self._costs.cached_block)
        self._by_key[key] = self._by_page[page] = block

    def acquire(self, block: CachedBlock) -> None:
        """One more sequence reads the block."""
        if block.num_users == 0:
            self._idle.discard(block)
            self._pool.reassign(block.page, PageUse.KV)
        block.num_users += 1
        self._idle.touch(block, self._costs.cached_block)

    def release(self, page: int) -> bool:
        """A sequence lets go of a page; False when the page is no block of the cache."""
        block = self._by_page.get(page)
        if block is None:
            return False
        assert block.num_users > 0
        block.num_users -= 1
        if block.num_users == 0 and block.is_dropped:
            del self._by_page[page]
            self._pool.free([page])
        elif block.num_users == 0:
            self._pool.reassign(page, PageUse.CACHED)
            self._idle.add(block)
        return True

    def evict(self, block: CachedBlock) -> None:
        """Frees a block without users, which has left the eviction queue."""
        assert block.num_users == 0
        del self._by_key[block.key], self._by_page[block.page]
        self._pool.free([block.page])

    def forget(self, adapter_digest: str) -> None:
        """Frees what an adapter computed; none of its blocks is in use."""
        for block in [b for b in self._by_key.values() if b.adapter_digest == adapter_digest]:
            self._idle.discard(block)
            self.evict(block)

    def drop(self, tenant: str | None, adapter_digest: str | None) -> int:
        """Nobody finds these blocks any more; None: of any. Returns how many there were.

        Idle ones are freed; the others when their last user lets go of them.
        """
        blocks = [
            block
            for block in self._by_key.values()
            if tenant in (None, block.tenant) and adapter_digest in (None, block.adapter_digest)
        ]
        for block in blocks:
            if block.num_users:
                block.is_dropped = True
                del self._by_key[block.key]
            else:
                self._idle.discard(block)
                self.evict(block)
        return len(blocks)

    def check_integrity(self) -> None:
        dropped = [block for block in self._by_page.values() if block.is_dropped]
        assert all(block.num_users > 0 for block in dropped)
        assert len(self._by_key) + len(dropped) == len(self._by_page)
        num_idle = sum(block.num_users == 0 for block in self._by_key.values())
        assert num_idle == self._pool.num_used(PageUse.CACHED)
        for page, block in self._by_page.items():
            assert block.page == page
            assert (block.ticket == 0) == (block.num_users > 0)
