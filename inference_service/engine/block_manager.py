"""The KV pages of each sequence, shared where sequences begin alike."""

from array import array

from inference_service.engine.page_pool import PagePool, PageUse
from inference_service.engine.prefix_cache import PrefixCache, PrefixKeys
from inference_service.engine.sequence import Sequence


class BlockManager:
    """Block i of a sequence holds its tokens [i * block_tokens, (i + 1) * block_tokens).

    A full block enters the prefix cache; it is never written again, whoever reads it.
    """

    def __init__(
        self,
        pool: PagePool,
        block_tokens: int,
        prefixes: PrefixCache,
        keys: PrefixKeys | None,
    ) -> None:
        """Without `keys`, nothing is cached and nothing is shared."""
        self._pool, self._prefixes, self._keys = pool, prefixes, keys
        self._block_tokens = block_tokens
        # Arrays, so that a step's tables are copied and not converted number by number.
        self._pages: dict[int, array[int]] = {}
        self._num_sealed: dict[int, int] = {}

    def num_pages(self, num_tokens: int) -> int:
        return -(-num_tokens // self._block_tokens)

    def num_missing(self, request_id: int, num_tokens: int) -> int:
        """Pages to allocate before the sequence can hold `num_tokens` tokens in all."""
        return max(0, self.num_pages(num_tokens) - len(self._pages.get(request_id, ())))

    def adopt_prefix(self, sequence: Sequence) -> int:
        """Gives a new sequence the cached blocks it begins with; returns how many tokens.

        At least one token is left to compute: its logits are what the request is for.
        """
        if self._keys is None or sequence.needs_prompt_logits:
            return 0
        num_blocks = (sequence.num_tokens - 1) // self._block_tokens
        blocks = self._prefixes.match(self._keys.extend(sequence, num_blocks))
        for block in blocks:
            self._prefixes.acquire(block)
        self._pages[sequence.request_id] = array("i", [block.page for block in blocks])
        self._num_sealed[sequence.request_id] = len(blocks)
        return len(blocks) * self._block_tokens

    def extend(self, request_id: int, num_tokens: int) -> None:
        """Makes room for `num_tokens` tokens in all; the pool must have the missing pages."""
        missing = self.num_missing(request_id, num_tokens)
        pages = self._pool.allocate(missing, PageUse.KV)
        self._pages.setdefault(request_id, array("i")).extend(pages)

    def seal(self, sequence: Sequence) -> None:
        """Offers the blocks that have become full to the prefix cache."""
        if self._keys is None:
            return
        assert sequence.num_computed <= len(sequence.token_ids), "KV of a token not known yet"
        num_full = sequence.num_computed // self._block_tokens
        first = self._num_sealed.get(sequence.request_id, 0)
        if num_full <= first:
            return
        keys, pages = self._keys.extend(sequence, num_full), self._pages[sequence.request_id]
        for depth in range(first, num_full):
            self._prefixes.insert(keys[depth], pages[depth], depth, sequence)
        self._num_sealed[sequence.request_id] = num_full

    def table(self, request_id: int) -> "array[int]":
        """The pages of its blocks, in order, as int32."""
        return self._pages[request_id]

    def release(self, request_id: int) -> None:
        """Lets go of all pages of a sequence; one that has none is no error."""
        self._num_sealed.pop(request_id, None)
        for page in self._pages.pop(request_id, ()):
            if not self._prefixes.release(page):
                self._pool.free([page])

    def check_integrity(self) -> None:
        held = {page for table in self._pages.values() for page in table}
        assert len(held) == self._pool.num_used(PageUse.KV)
