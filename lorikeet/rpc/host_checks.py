"""What both services' own checks have in common: `python -m <service>_service.doctor`."""

import json
from pathlib import Path

from pydantic import ValidationError

from lorikeet.rpc.checklist import CheckFailed, Checklist
from lorikeet.rpc.tls import TlsFilesError, server_credentials, server_tls_files


def wrong_settings(error: ValidationError) -> str:
    """Which settings are wrong and why; their values may be secrets."""
    return "; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors())


def check_certificate(cert: Path | None, key: Path | None, client_ca: Path | None) -> str:
    """The settings tls_cert, tls_key and tls_client_ca of a service."""
    try:
        files = server_tls_files(cert, key, client_ca)
        if files is None:
            return "plaintext: for loopback only"
        server_credentials(files)
    except TlsFilesError as error:
        raise CheckFailed(str(error), "correct tls_cert, tls_key and tls_client_ca") from error
    return f"{files.cert} and its key belong together and are valid"


def print_findings(checklist: Checklist) -> int:
    """As JSON; returns the exit status, which is 1 when a check failed."""
    print(json.dumps([finding.as_dict() for finding in checklist.findings], indent=2))
    return int(any(finding.status == "failed" for finding in checklist.findings))
