"""A deployment's checks: each has a name and a layer, and ends well, badly, or not at all."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Status = Literal["ok", "failed", "skipped"]
Layer = Literal["machine", "HTTP", "TLS", "S3", "database", "registry", "client", "device"]


@dataclass(frozen=True)
class Finding:
    """What one check found; `advice` says what to do about a failure."""

    check: str
    layer: Layer
    status: Status
    detail: str
    advice: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


class CheckFailed(Exception):
    """What is wrong, and what to do."""

    def __init__(self, detail: str, advice: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.advice = advice


class CheckSkipped(Exception):
    """Why there was nothing to check."""


class Checklist:
    """Runs checks in order; one whose needs have failed, or were skipped, is skipped."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def run(
        self, check: str, layer: Layer, function: Callable[[], str], needs: Sequence[str] = ()
    ) -> None:
        """`function` returns what it found to be well, or raises CheckFailed or CheckSkipped."""
        status: Status = "ok"
        advice = ""
        good = {finding.check for finding in self.findings if finding.status == "ok"}
        try:
            missing = [need for need in needs if need not in good]
            if missing:
                raise CheckSkipped(f"needs {missing[0]}")
            detail = function()
        except CheckSkipped as skipped:
            status, detail = "skipped", str(skipped)
        except CheckFailed as failed:
            status, detail, advice = "failed", failed.detail, failed.advice
        except Exception as error:  # a check must not hide the others
            status, detail = "failed", f"{type(error).__name__}: {error}"
            advice = "the check itself could not be made: its layer is where to look"
        self.findings.append(Finding(check, layer, status, detail, advice))
