"""A whole Lorikeet on this machine: registry and inference as two processes on loopback."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from lorikeet.admin import AdminClient, AsyncAdminClient
from lorikeet.client import AsyncClient, Client
from lorikeet.process import ServiceProcess

_REGISTRY_START_SECONDS = 60.0
_INFERENCE_START_SECONDS = 600.0  # a large model takes a while to load
_STOP_GRACE_SECONDS = 15.0  # inference gives running streams ten


class LocalStack:
    """Starts both services, registers the base model in between, and stops what it started.

    `model` is a directory with a Hugging Face checkpoint. `source`, `revision` and `known_as`
    describe it to the registry: the names adapters were trained against. Port 0 is a free port.
    Without `data_dir` everything lives in a temporary directory that goes with the stack.
    """

    inference_module = "inference_service"

    def __init__(
        self,
        model: str | Path,
        base_model_id: str,
        *,
        revision: str = "main",
        source: str = "",
        known_as: Sequence[str] = (),
        data_dir: str | Path | None = None,
        registry_port: int = 0,
        inference_port: int = 0,
        inference_args: Sequence[str] = (),
    ) -> None:
        self.model = Path(model).resolve()
        self.base_model_id = base_model_id
        self.revision = revision
        self.source = source or self.model.name
        self.known_as = tuple(known_as)
        self.registry_address = ""
        self.inference_address = ""
        self.registry: ServiceProcess | None = None
        self.inference: ServiceProcess | None = None
        self._ports = (registry_port, inference_port)
        self._inference_args = tuple(inference_args)
        self._is_temporary = data_dir is None
        self.data_dir = Path(data_dir or tempfile.mkdtemp(prefix="lorikeet-")).resolve()

    @property
    def credentials(self) -> dict[str, str]:
        """The keys the registry made on its first run: `admin` and `inference`."""
        credentials: dict[str, str] = json.loads(self._credentials_path.read_text())
        return credentials

    def admin(self) -> AdminClient:
        """A registry client with every permission."""
        return AdminClient(self.registry_address, self.credentials["admin"])

    def async_admin(self) -> AsyncAdminClient:
        """The same on asyncio."""
        return AsyncAdminClient(self.registry_address, self.credentials["admin"])

    def client(self, api_key: str, tenant: str = "") -> Client:
        """An inference client for whoever owns `api_key`."""
        return Client(self.inference_address, api_key, tenant=tenant)

    def async_client(self, api_key: str, tenant: str = "") -> AsyncClient:
        """The same on asyncio."""
        return AsyncClient(self.inference_address, api_key, tenant=tenant)

    def start(self) -> None:
        """Returns when both services answer; if either cannot, stops both and says why."""
        try:
            self.start_registry()
            with self.admin() as admin:
                admin.register_base_model(
                    self.base_model_id,
                    self.model,
                    source=self.source,
                    revision=self.revision,
                    known_as=self.known_as,
                )
            self.start_inference()
        except BaseException:
            self.stop()
            raise

    def start_registry(self) -> None:
        """Starts the registry; after it was stopped or killed, on the same address and data."""
        port = int(self.registry_address.rpartition(":")[2] or self._ports[0])
        arguments = ["--listen", f"127.0.0.1:{port}", "--data-dir", str(self._registry_dir)]
        self._registry_dir.mkdir(parents=True, exist_ok=True)
        self.registry = ServiceProcess("registry_service", arguments, self._run_dir)
        self.registry_address = self.registry.wait_until_ready(_REGISTRY_START_SECONDS)

    def start_inference(self) -> None:
        """Starts inference; after it was stopped or killed, on the same address and data."""
        port = int(self.inference_address.rpartition(":")[2] or self._ports[1])
        inference_dir = self.data_dir / "inference"
        inference_dir.mkdir(parents=True, exist_ok=True)
        arguments = [
            *("--model", str(self.model), "--base-model", self.base_model_id),
            *("--revision", self.revision),
            *("--registry", self.registry_address),
            *("--credentials", str(self._credentials_path)),
            *("--listen", f"127.0.0.1:{port}", "--data-dir", str(inference_dir)),
            *self._inference_args,
        ]
        self.inference = ServiceProcess(self.inference_module, arguments, self._run_dir)
        self.inference_address = self.inference.wait_until_ready(_INFERENCE_START_SECONDS)

    def stop(self) -> None:
        """Stops inference, then the registry it depends on."""
        for process in (self.inference, self.registry):
            if process is not None:
                process.stop(_STOP_GRACE_SECONDS)
        if self._is_temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def check(self) -> None:
        """ServiceFailedError when a service has ended by itself."""
        for process in (self.registry, self.inference):
            if process is not None and not process.is_running:
                raise process.failure("ended")

    @property
    def _registry_dir(self) -> Path:
        return self.data_dir / "registry"

    @property
    def _run_dir(self) -> Path:
        return self.data_dir / "run"

    @property
    def _credentials_path(self) -> Path:
        return self._registry_dir / "credentials.json"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        starting = asyncio.ensure_future(asyncio.to_thread(self.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # A thread cannot be cancelled: without its processes it gives up by itself.
            await asyncio.to_thread(self.stop)
            await asyncio.wait([starting])
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.stop)
