"""`python -m inference_service`: one inference server, until SIGTERM."""

import asyncio
import gc
import logging
import sys
from functools import partial

from pydantic import ValidationError
from pydantic_settings import SettingsError

from inference_service.adapters.disk import StoreLockedError
from inference_service.config import CredentialsError, Settings
from inference_service.engine.client import EngineDiedError
from inference_service.engine.process import ChildEngineClient
from inference_service.engine.watchdog import Patience
from inference_service.model_files import ModelFilesError
from inference_service.service import InferenceService, MakeEngine
from inference_service.start_checks import StartError
from inference_service.tokenizer import TokenizerMissingError
from lorikeet.rpc.logs import configure_logging
from lorikeet.rpc.metrics import MetricsListenError
from lorikeet.rpc.server import InsecureBindError, run_until_signal, write_ready_file
from lorikeet.rpc.telemetry import TelemetryError
from lorikeet.rpc.tls import TlsFilesError

logger = logging.getLogger(__name__)

_START_ERRORS = (
    CredentialsError,
    EngineDiedError,
    InsecureBindError,
    MetricsListenError,
    ModelFilesError,
    StartError,
    StoreLockedError,
    TelemetryError,
    TlsFilesError,
    TokenizerMissingError,
)


async def _serve(settings: Settings, make_engine: MakeEngine) -> None:
    service = InferenceService(settings, make_engine)
    try:
        address = await service.start()
    except BaseException:
        try:
            await service.stop()
        except Exception:  # why it could not start matters more
            logger.exception("could not stop cleanly")
        raise
    # What is there now stays: the collector need not look at it again and again under load.
    gc.collect()
    gc.freeze()
    write_ready_file(settings.ready_file, address)
    await run_until_signal(service.stop, stop_with_stdin=settings.stop_with_stdin)


def _child_engine(settings: Settings) -> MakeEngine:
    patience = Patience(settings.engine_start_seconds, settings.engine_stall_seconds)
    return partial(ChildEngineClient, patience=patience)


def main(make_engine: MakeEngine | None = None) -> None:
    """Exits with 1 and one clear line when it cannot start, with 2 when told something wrong."""
    try:
        settings = Settings(_cli_parse_args=True)  # type: ignore[call-arg]
    except (ValidationError, SettingsError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    configure_logging(settings.log_level, settings.log_format)
    try:
        asyncio.run(_serve(settings, make_engine or _child_engine(settings)))
    except _START_ERRORS as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
