"""`python -m registry_service.doctor`: the findings as JSON; what `lorikeet doctor` runs here.

Settings come from the environment and secret files, as the service's do.
"""

import json
import sys

from pydantic import ValidationError
from pydantic_settings import SettingsError

from lorikeet.rpc.checklist import CheckFailed, Checklist
from lorikeet.rpc.tls import TlsFilesError, server_credentials, server_tls_files
from registry_service.config import Settings, load_settings
from registry_service.doctor.database import check_database
from registry_service.doctor.s3 import check_s3
from registry_service.secret_files import SecretFilesError


def examine(arguments: list[str]) -> Checklist:
    """Everything that can be checked from where the registry runs."""
    checklist = Checklist()
    loaded: list[Settings] = []
    checklist.run("registry.settings", "registry", lambda: _load(arguments, loaded))
    if loaded:
        checklist.run("registry.certificate", "TLS", lambda: _certificate(loaded[0]))
        check_database(checklist, loaded[0])
        check_s3(checklist, loaded[0])
    return checklist


def _load(arguments: list[str], loaded: list[Settings]) -> str:
    try:
        loaded.append(load_settings(arguments))
    except ValidationError as error:
        wrong = "; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors())
        raise CheckFailed(wrong, "set LORIKEET_REGISTRY_<NAME>, or its secret file") from error
    except (SecretFilesError, SettingsError) as error:
        raise CheckFailed(str(error), "see LORIKEET_REGISTRY_SECRETS_DIR") from error
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
