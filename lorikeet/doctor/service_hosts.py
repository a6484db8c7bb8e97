"""The checks that need a service's settings, made where they are: in a process of its own.

The command line must not import a service, which may not be installed beside it.
"""

import json
import os
import subprocess
import sys
from typing import Final, Literal

from lorikeet.rpc.checklist import CheckFailed, Checklist, CheckSkipped, Finding, Layer

Service = Literal["registry", "inference"]
_LAYERS: Final[dict[Service, Layer]] = {"registry": "registry", "inference": "device"}
_SECONDS: Final = 120


def check_service_host(checklist: Checklist, service: Service) -> None:
    """Adds what `python -m <service>_service.doctor` finds, if the service is set up here."""
    prefix, check = f"LORIKEET_{service.upper()}_", f"{service}.settings"
    if not any(name.startswith(prefix) for name in os.environ):
        checklist.run(check, _LAYERS[service], lambda: _not_here(service, prefix))
        return
    finished = subprocess.run(
        [sys.executable, "-m", f"{service}_service.doctor"],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    try:
        findings = [Finding(**item) for item in json.loads(finished.stdout)]
    except (ValueError, TypeError):
        checklist.run(check, _LAYERS[service], lambda: _broken(service, finished.stderr))
        return
    checklist.findings.extend(findings)


def _not_here(service: Service, prefix: str) -> str:
    raise CheckSkipped(f"no {prefix}* variable is set: run this where {service} runs, too")


def _broken(service: Service, errors: str) -> str:
    last = errors.strip().splitlines()[-1:] or ["no output"]
    raise CheckFailed(last[0], f"is {service} installed here?")
