"""`python -m registry_service.doctor`: the findings as JSON; what `lorikeet doctor` runs here.

Settings come from the environment and secret files, as the service's do.
"""

import sys
from functools import partial

from pydantic import ValidationError
from pydantic_settings import SettingsError

from lorikeet.rpc.checklist import CheckFailed, Checklist
from lorikeet.rpc.host_checks import check_certificate, print_findings, wrong_settings
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
        settings = loaded[0]
        tls = (settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        checklist.run("registry.certificate", "TLS", partial(check_certificate, *tls))
        check_database(checklist, settings)
        check_s3(checklist, settings)
    return checklist


def _load(arguments: list[str], loaded: list[Settings]) -> str:
    try:
        loaded.append(load_settings(arguments))
    except ValidationError as error:
        advice = "set LORIKEET_REGISTRY_<NAME>, or its secret file"
        raise CheckFailed(wrong_settings(error), advice) from error
    except (SecretFilesError, SettingsError) as error:
        raise CheckFailed(str(error), "see LORIKEET_REGISTRY_SECRETS_DIR") from error
    return "the settings can be used"


if __name__ == "__main__":
    sys.exit(print_findings(examine(sys.argv[1:])))
