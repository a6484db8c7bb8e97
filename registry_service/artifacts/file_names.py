"""Which files an artifact may have: an allow-list, so that nothing executable ever gets in."""

from collections.abc import Sequence

from adapter_format.artifact import MAX_CONFIG_BYTES, WEIGHTS_FILE
from adapter_format.config_fields import CONFIG_FILE
from adapter_format.violation import Reason, Violation, shown
from lorikeet.rpc.errors import ResourceExhaustedError
from registry_service.artifacts.validation import refusal

REQUIRED_FILES = (CONFIG_FILE, WEIGHTS_FILE)
_MAX_README_BYTES = 1024 * 1024
# Largest size of each file that may be declared; None: the quota of the whole artifact.
_MAX_BYTES = {
    CONFIG_FILE: MAX_CONFIG_BYTES,
    WEIGHTS_FILE: None,
    "README.md": _MAX_README_BYTES,
}
_HEX_DIGITS = frozenset("0123456789abcdef")


def check_files(files: Sequence[tuple[str, int, str | None]], max_artifact_bytes: int) -> None:
    """Checks (name, size, sha256) before a single byte is accepted; sha256 None: not known yet."""
    names = [name for name, _, _ in files]
    unsafe = [_unsafe(index, name) for index, name in enumerate(names) if name not in _MAX_BYTES]
    if unsafe:
        raise refusal(unsafe, "UNSAFE_FORMAT")
    violations = [
        Violation("files", Reason.FILE_MISSING, f"{name} is missing: an adapter needs it")
        for name in REQUIRED_FILES
        if name not in names
    ]
    for index, (name, size, sha256) in enumerate(files):
        violations += _file_violations(f"files[{index}]", name, size, sha256, names[:index])
    if violations:
        raise refusal(violations)
    total = sum(size for _, size, _ in files)
    if total > max_artifact_bytes:
        raise ResourceExhaustedError(
            f"the artifact has {total} bytes: at most {max_artifact_bytes} are allowed",
            reason="QUOTA_EXCEEDED",
            metadata={"quota": "max_artifact_bytes", "limit": str(max_artifact_bytes)},
        )


def _unsafe(index: int, name: str) -> Violation:
    return Violation(
        f"files[{index}].file_name",
        Reason.FILE_NAME_REFUSED,
        f"{shown(name)} is not accepted: save the adapter as {' and '.join(REQUIRED_FILES)}",
    )


def _file_violations(
    field: str, name: str, size: int, sha256: str | None, earlier: Sequence[str]
) -> list[Violation]:
    violations = []
    if name in earlier:
        description = f"{name} is declared twice"
        violations.append(Violation(f"{field}.file_name", Reason.FILE_REPEATED, description))
    limit = _MAX_BYTES[name]
    if size < 1 or (limit is not None and size > limit):
        most = "" if limit is None else f", at most {limit}"
        description = f"{name} has {size} bytes: at least 1 is needed{most}"
        violations.append(Violation(f"{field}.size_bytes", Reason.FILE_SIZE_INVALID, description))
    if sha256 is not None and (len(sha256) != 64 or not _HEX_DIGITS.issuperset(sha256)):
        description = f"of {name} must be 64 lower-case hex digits"
        violations.append(Violation(f"{field}.sha256", Reason.FILE_SHA256_INVALID, description))
    return violations
