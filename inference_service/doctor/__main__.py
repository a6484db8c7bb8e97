"""`python -m inference_service.doctor`: the findings as JSON; what `lorikeet doctor` runs here.

Settings come from the environment, as the service's do.
"""

import json
import sys

from pydantic import ValidationError
from pydantic_settings import SettingsError

from inference_service.config import Settings
from inference_service.doctor.machine import check_machine
from inference_service.doctor.upstream import check_upstream
from lorikeet.rpc.checklist import CheckFailed, Checklist
from lorikeet.rpc.tls import TlsFilesError, server_credentials, server_tls_files


def examine(arguments: list[str]) -> Checklist:
    """Everything that can be checked from where the service runs."""
    checklist = Checklist()
    loaded: list[Settings] = []
    checklist.run("inference.settings", "device", lambda: _load(arguments, loaded))
    if loaded:
        checklist.run("inference.certificate", "TLS", lambda: _certificate(loaded[0]))
        check_machine(checklist, loaded[0])
        check_upstream(checklist, loaded[0])
    return checklist


def _load(arguments: list[str], loaded: list[Settings]) -> str:
    try:
        loaded.append(Settings(_cli_parse_args=arguments))  # type: ignore[call-arg]
    except ValidationError as error:
        wrong = "; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors())
        raise CheckFailed(wrong, "set LORIKEET_INFERENCE_<NAME>") from error
    except SettingsError as error:
        raise CheckFailed(str(error), "set LORIKEET_INFERENCE_<NAME>") from error
    return "the settings can be used"


def _certificate(settings: Settings) -> str:
    try:
        files = server_tls_files(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        if files is None:
            return "plaintext: for loopback only"
        server_credentials(files)
    except TlsFilesError as error:
        raise CheckFailed(str(error), "correct tls_cert, tls_key and tls_client_ca") from error
    return f"{files.cert} and its key belong together and are valid"


def main() -> int:
    """Exit status 1 when a check failed."""
    findings = examine(sys.argv[1:]).findings
    print(json.dumps([finding.as_dict() for finding in findings], indent=2))
    return int(any(finding.status == "failed" for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
