"""What the front end knows of an engine, wherever it runs."""

from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Protocol

from inference_service.engine.request import DeclaredFile, SamplingOptions, TokenOutput
from inference_service.engine.self_report import AdapterResidency, EngineInfo, EngineStats


class EngineDiedError(RuntimeError):
    """The engine ended; the streams it ran are lost, and it is being started again.

    `retry_at`, by time.monotonic(), is when it may be back; 0 if nobody knows.
    """

    def __init__(self, message: str, retry_at: float = 0.0) -> None:
        super().__init__(message)
        self.retry_at = retry_at


class EngineRefusedError(RuntimeError):
    """The engine is alive and said no; `reason` is an ErrorInfo reason such as ADAPTER_IN_USE,
    OUT_OF_PAGES, ADAPTER_INVALID, ARTIFACT_CORRUPT, ADAPTER_UNKNOWN."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class EngineClient(Protocol):
    """One engine. Every method raises EngineDiedError when the engine ends while it waits."""

    @property
    def info(self) -> EngineInfo:
        """What the engine is; known once `start` has returned."""

    @property
    def is_alive(self) -> bool:
        """Whether requests can be submitted now."""

    @property
    def ends(self) -> Mapping[str, int]:
        """How often it ended by itself, by one of END_REASONS."""

    def check_alive(self) -> None:
        """EngineDiedError unless requests can be submitted now."""

    async def start(self) -> None:
        """Starts the engine and waits until its model is loaded."""

    def generate(
        self,
        prompt_token_ids: list[int],
        sampling: SamplingOptions,
        adapter_digest: str,
        tenant: str,
        *,
        priority: int = 0,
        weight: float = 1.0,
    ) -> AsyncGenerator[TokenOutput, None]:
        """Runs a request; the last output has a finish_reason; closing it early aborts it.

        Raises EngineRefusedError when the request can never run (reason OUT_OF_PAGES,
        ADAPTER_UNKNOWN).
        """

    async def load_adapter(
        self, digest: str, path: Path, files: Mapping[str, DeclaredFile]
    ) -> AdapterResidency:
        """Makes an adapter known and resident; at once when it already is.

        EngineRefusedError ARTIFACT_CORRUPT when what is read are not the declared `files`,
        ADAPTER_INVALID when they cannot be applied, OUT_OF_PAGES when they never fit.
        """

    async def pin_adapter(self, digest: str) -> AdapterResidency:
        """Keeps a loaded adapter resident until unpinned or until this engine ends.

        EngineRefusedError OUT_OF_PAGES where the largest request would no longer fit beside it.
        """

    async def unpin_adapter(self, digest: str) -> AdapterResidency:
        """Lets an adapter be evicted again; one that is not pinned is no error."""

    async def unload_adapter(self, digest: str) -> int:
        """Frees an adapter; returns how many pages. EngineRefusedError while it is in use."""

    async def drop_prefixes(self, tenant: str | None, adapter_digest: str | None) -> int:
        """Forgets a tenant's cached KV of one adapter, or of every one; returns how many blocks.

        `tenant` None is every tenant, `adapter_digest` None every adapter and the base model, ""
        the base model alone. Nobody finds a forgotten block, whoever still uses it.
        """

    async def stats(self) -> EngineStats:
        """One consistent reading of pages, queues and resident adapters."""

    async def close(self) -> None:
        """Ends the engine and waits for it."""
