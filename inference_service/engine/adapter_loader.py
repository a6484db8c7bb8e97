"""Reads and packs adapters on a thread of its own, so that decoding goes on meanwhile."""

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import torch

from inference_service.engine.adapter_files import AdapterCorruptError, AdapterInvalidError
from inference_service.engine.background import background_executor
from inference_service.engine.load_pace import LoadPace
from inference_service.engine.page_copier import PageCopier
from inference_service.engine.page_image import PageImage, pack
from inference_service.engine.peft_adapter import read_adapter
from inference_service.engine.readiness import Refusal
from inference_service.engine.request import DeclaredFile
from inference_service.models.spec import DecoderSpec

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AdapterSource:
    """A directory, and the files that the registry declared, by name."""

    path: Path
    files: Mapping[str, DeclaredFile]


@dataclass(frozen=True)
class LoadedImage:
    """A packed adapter, and how long reading and packing it took."""

    image: PageImage
    seconds: float


class AdapterLoader:
    """At most one load per adapter at a time."""

    def __init__(
        self,
        spec: DecoderSpec,
        page_elems: int,
        dtype: torch.dtype,
        max_rank: int,
        copier: PageCopier,
        pace: LoadPace,
    ) -> None:
        self._spec, self._page_elems, self._dtype = spec, page_elems, dtype
        self._max_rank, self._copier, self._pace = max_rank, copier, pace
        self._executor = background_executor("adapter-loader")
        self._loading: dict[str, Future[LoadedImage]] = {}

    @property
    def num_loading(self) -> int:
        return len(self._loading)

    def start(self, digest: str, source: AdapterSource) -> None:
        if digest not in self._loading:
            self._loading[digest] = self._executor.submit(self._load, source)

    def finished(self) -> list[tuple[str, LoadedImage | Refusal]]:
        """What has been loaded, or could not be, since the last call."""
        done = [digest for digest, future in self._loading.items() if future.done()]
        return [(digest, self._result(digest, self._loading.pop(digest))) for digest in done]

    def close(self) -> None:
        self._pace.steps_run = False  # nobody is left to give way to
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _result(self, digest: str, future: "Future[LoadedImage]") -> LoadedImage | Refusal:
        try:
            return future.result()
        except AdapterCorruptError as error:
            return Refusal("ARTIFACT_CORRUPT", str(error))
        except AdapterInvalidError as error:
            return Refusal("ADAPTER_INVALID", str(error))
        except Exception as error:  # whatever a file can provoke costs its own adapter only
            logger.exception("loading adapter %s failed", digest)
            return Refusal("ADAPTER_INVALID", f"the adapter cannot be loaded: {error!r}")

    def _load(self, source: AdapterSource) -> LoadedImage:
        began = time.perf_counter()
        spec, dtype, rest = self._spec, self._dtype, self._pace.begin()
        matrices = read_adapter(source.path, spec, self._max_rank, dtype, source.files, rest)
        image = pack(matrices, spec.num_layers, len(spec.modules), self._page_elems, dtype, rest)
        image = image.with_pages(self._copier.stage(image.pages))
        return LoadedImage(image, time.perf_counter() - began)
