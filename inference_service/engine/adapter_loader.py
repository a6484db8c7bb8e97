"""Reads and packs adapters on a thread of its own, so that decoding goes on meanwhile."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch

from inference_service.engine.page_image import PageImage, pack
from inference_service.engine.peft_adapter import AdapterInvalidError, read_adapter
from inference_service.models.spec import DecoderSpec


class AdapterLoader:
    """At most one load per adapter at a time."""

    def __init__(
        self, spec: DecoderSpec, page_elems: int, dtype: torch.dtype, max_rank: int
    ) -> None:
        self._spec, self._page_elems, self._dtype = spec, page_elems, dtype
        self._max_rank = max_rank
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="adapter-loader")
        self._loading: dict[str, Future[PageImage]] = {}

    def start(self, digest: str, path: Path) -> None:
        if digest not in self._loading:
            self._loading[digest] = self._executor.submit(self._load, path)

    def finished(self) -> list[tuple[str, PageImage | AdapterInvalidError]]:
        """What has been loaded, or could not be, since the last call."""
        done = [digest for digest, future in self._loading.items() if future.done()]
        results: list[tuple[str, PageImage | AdapterInvalidError]] = []
        for digest in done:
            future = self._loading.pop(digest)
            try:
                results.append((digest, future.result()))
            except AdapterInvalidError as error:
                results.append((digest, error))
        return results

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _load(self, path: Path) -> PageImage:
        matrices = read_adapter(path, self._spec, self._max_rank)
        spec = self._spec
        return pack(matrices, spec.num_layers, len(spec.modules), self._page_elems, self._dtype)
