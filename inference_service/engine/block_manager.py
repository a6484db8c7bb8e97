"""The KV pages of each sequence."""

from inference_service.engine.page_pool import PagePool, PageUse


class BlockManager:
    """Block i of a sequence holds its tokens [i * block_tokens, (i + 1) * block_tokens)."""

    def __init__(self, pool: PagePool, block_tokens: int) -> None:
        self._pool = pool
        self._block_tokens = block_tokens
        self._pages: dict[int, list[int]] = {}

    def num_pages(self, num_tokens: int) -> int:
        return -(-num_tokens // self._block_tokens)

    def num_missing(self, request_id: int, num_tokens: int) -> int:
        """Pages to allocate before the sequence can hold `num_tokens` tokens in all."""
        return max(0, self.num_pages(num_tokens) - len(self._pages.get(request_id, ())))

    def extend(self, request_id: int, num_tokens: int) -> None:
        """Makes room for `num_tokens` tokens in all; the pool must have the missing pages."""
        missing = self.num_missing(request_id, num_tokens)
        pages = self._pool.allocate(missing, PageUse.KV)
        self._pages.setdefault(request_id, []).extend(pages)

    def table(self, request_id: int) -> list[int]:
        return self._pages[request_id]

    def release(self, request_id: int) -> None:
        """Frees all pages of a sequence; one that has none is no error."""
        self._pool.free(self._pages.pop(request_id, ()))

    def check_integrity(self) -> None:
        pages = [page for table in self._pages.values() for page in table]
        assert len(set(pages)) == len(pages) == self._pool.num_used(PageUse.KV)
