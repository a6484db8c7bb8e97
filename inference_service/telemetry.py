"""All that is told to those who watch the service: metrics, and traces when they are wanted."""

import asyncio
from collections.abc import Sequence
from typing import Any

from inference_service.config import Settings
from inference_service.metrics.download_metrics import DownloadMetrics
from inference_service.metrics.sample import Sampler
from inference_service.metrics.sample_reader import SampleReader
from inference_service.metrics.service_metrics import InferenceMetrics
from inference_service.request_spans import RequestSpans
from inference_service.running_requests import RequestObserver
from lorikeet.rpc.metrics import MetricsServer, serve_metrics
from lorikeet.rpc.observation import Observer
from lorikeet.rpc.telemetry import open_tracing


class Telemetry:
    """What observes calls and requests, and the port metrics are read from.

    TelemetryError when traces are configured and cannot be made.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = InferenceMetrics(settings.base_model, settings.max_loras)
        self._tracing = open_tracing("lorikeet-inference", settings.otlp_endpoint)
        self._server: MetricsServer | None = None

    @property
    def call_observers(self) -> Sequence[Observer]:
        calls: Sequence[Observer] = (self._metrics.calls,)
        return (*calls, self._tracing.observer()) if self._tracing else calls

    @property
    def request_observers(self) -> Sequence[RequestObserver]:
        counting = self._metrics.observers
        return (*counting, RequestSpans(self._tracing.tracer)) if self._tracing else counting

    @property
    def downloads(self) -> DownloadMetrics:
        return self._metrics.downloads

    @property
    def client_interceptors(self) -> Sequence[Any]:
        """For channels to other services."""
        return self._tracing.client_interceptors() if self._tracing else ()

    @property
    def metrics_address(self) -> str | None:
        """Where metrics are served, once they are."""
        return self._server.address if self._server else None

    def serve(self, reader: SampleReader) -> None:
        """Serves metrics, if they are to be. InsecureBindError or MetricsListenError."""
        settings = self._settings
        if settings.metrics_listen is None:
            return
        self._metrics.show(Sampler(reader.read))
        self._server = serve_metrics(
            self._metrics.registry,
            settings.metrics_listen,
            certificate=settings.tls_cert,
            key=settings.tls_key,
            insecure=settings.insecure,
        )

    async def close(self) -> None:
        """Serves no more, and sends the spans that are left."""
        if self._server is not None:
            await asyncio.to_thread(self._server.close)
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)
