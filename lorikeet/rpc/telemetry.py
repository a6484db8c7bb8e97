"""Whether traces are wanted, decided without importing OpenTelemetry where they are not."""

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lorikeet.rpc.tracing import Tracing

_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class TelemetryError(RuntimeError):
    """Traces are configured and cannot be made; the message says what to install or change."""


def open_tracing(service: str, endpoint: str | None) -> "Tracing | None":
    """Traces of `service`, sent to an OTLP/gRPC endpoint: the given one, or the environment's.

    None when there is neither: nothing is imported then, and nothing is measured.
    """
    if not endpoint and not any(os.environ.get(name) for name in _VARIABLES):
        return None
    try:
        from lorikeet.rpc.tracing import Tracing
    except ImportError as error:
        raise TelemetryError(
            f"traces are configured, but {error.name} is not installed: "
            "pip install 'lorikeet[telemetry]', or unset the OTLP endpoint"
        ) from error
    return Tracing(service, endpoint)
