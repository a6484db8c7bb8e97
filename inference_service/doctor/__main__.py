"""`python -m inference_service.doctor`: the findings as JSON; what `lorikeet doctor` runs here.

Settings come from the environment, as the service's do.
"""

import sys
from functools import partial

from pydantic import ValidationError
from pydantic_settings import SettingsError

from inference_service.config import Settings
from inference_service.doctor.machine import check_machine
from inference_service.doctor.upstream import check_upstream
from lorikeet.rpc.checklist import CheckFailed, Checklist
from lorikeet.rpc.host_checks import check_certificate, print_findings, wrong_settings


def examine(arguments: list[str]) -> Checklist:
    """Everything that can be checked from where the service runs."""
    checklist = Checklist()
    loaded: list[Settings] = []
    checklist.run("inference.settings", "device", lambda: _load(arguments, loaded))
    if loaded:
        settings = loaded[0]
        tls = (settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        checklist.run("inference.certificate", "TLS", partial(check_certificate, *tls))
        check_machine(checklist, settings)
        check_upstream(checklist, settings)
    return checklist


def _load(arguments: list[str], loaded: list[Settings]) -> str:
    advice = "set LORIKEET_INFERENCE_<NAME>"
    try:
        loaded.append(Settings(_cli_parse_args=arguments))  # type: ignore[call-arg]
    except ValidationError as error:
        raise CheckFailed(wrong_settings(error), advice) from error
    except SettingsError as error:
        raise CheckFailed(str(error), advice) from error
    return "the settings can be used"


if __name__ == "__main__":
    sys.exit(print_findings(examine(sys.argv[1:])))
