"""The checks that need the registry's settings, made where they are: in a process of its own.

The command line must not import the registry, which may not be installed beside it.
"""

import json
import os
import subprocess
import sys

from lorikeet.rpc.checklist import CheckFailed, Checklist, CheckSkipped, Finding

_PREFIX = "LORIKEET_REGISTRY_"
_SECONDS = 120


def check_registry_host(checklist: Checklist) -> None:
    """Adds what `python -m registry_service.doctor` finds, if the registry is set up here."""
    if not any(name.startswith(_PREFIX) for name in os.environ):
        checklist.run("registry.settings", "registry", _not_here)
        return
    finished = subprocess.run(
        [sys.executable, "-m", "registry_service.doctor"],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    try:
        findings = [Finding(**item) for item in json.loads(finished.stdout)]
    except (ValueError, TypeError):
        checklist.run("registry.settings", "registry", lambda: _broken(finished.stderr))
        return
    checklist.findings.extend(findings)


def _not_here() -> str:
    raise CheckSkipped(f"no {_PREFIX}* variable is set: run this where the registry runs, too")


def _broken(errors: str) -> str:
    last = errors.strip().splitlines()[-1:] or ["no output"]
    raise CheckFailed(last[0], "is the registry installed here?")
