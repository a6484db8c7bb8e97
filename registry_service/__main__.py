"""`python -m registry_service --listen 127.0.0.1:50051 --data-dir DIR`."""

import asyncio
import logging
import sys

from pydantic import ValidationError
from pydantic_settings import SettingsError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from lorikeet.rpc.logs import configure_logging
from lorikeet.rpc.metrics import MetricsListenError
from lorikeet.rpc.server import InsecureBindError, run_until_signal, write_ready_file
from lorikeet.rpc.telemetry import TelemetryError
from lorikeet.rpc.tls import TlsFilesError
from registry_service.bootstrap import StartError
from registry_service.config import Settings, load_settings
from registry_service.key_set import KeySetError
from registry_service.secret_files import SecretFilesError
from registry_service.service import RegistryService
from registry_service.tokens import TokenSettingsError

logger = logging.getLogger("registry_service")

# The loop that answers lets go of the interpreter for every look at its sockets. A thread that
# makes objects of rows takes it then: with Python's own 5 ms, a call waits several times for that.
_SWITCH_SECONDS = 0.0005

_START_ERRORS = (
    InsecureBindError,
    KeySetError,
    MetricsListenError,
    SecretFilesError,
    SettingsError,
    StartError,
    TelemetryError,
    TlsFilesError,
    TokenSettingsError,
    ValidationError,
)


def main() -> int:
    """Serves until SIGTERM or SIGINT; exit status 2 when it was told something impossible."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        settings = load_settings(sys.argv[1:])
        configure_logging(settings.log_level, settings.log_format)
        asyncio.run(_serve(settings))
    except _START_ERRORS as error:
        print(f"registry_service: {error}", file=sys.stderr)
        return 2
    except SQLAlchemyError as error:
        # Without the traceback, the statement and its parameters: they may hold secrets.
        cause = error.orig if isinstance(error, DBAPIError) else error
        print(f"registry_service: the database cannot be used: {cause}", file=sys.stderr)
        return 2
    return 0


async def _serve(settings: Settings) -> None:
    service = RegistryService(settings)
    address = await service.start()
    write_ready_file(settings.ready_file, address)
    logger.info("serving on %s", address)
    await run_until_signal(service.stop, stop_with_stdin=settings.stop_with_stdin)


if __name__ == "__main__":
    sys.exit(main())
