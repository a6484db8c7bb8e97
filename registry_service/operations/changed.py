"""What a write changes: the etag it was decided on, and the difference it makes."""

import hashlib
from collections.abc import Mapping
from typing import Any

from lorikeet.rpc.errors import AbortedError

_MAX_TEXT = 1024
_NUM_SHOWN = 200


def check_etag(stored: str, given: str, what: str) -> None:
    """ABORTED ETAG_MISMATCH when an etag was given and is not the stored one."""
    if given and given != stored:
        raise AbortedError(
            f"{what} changed since this etag was read: read it again and retry",
            reason="ETAG_MISMATCH",
        )


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """`before` and `after` for the audit trail: only the entries that differ."""
    keys = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    return {
        "before": {key: short(before[key]) for key in keys if key in before},
        "after": {key: short(after[key]) for key in keys if key in after},
    }


def short(value: Any) -> Any:
    """A value that an event can carry: of a long text its beginning, length and digest."""
    if isinstance(value, Mapping):
        return {key: short(item) for key, item in value.items()}
    if not isinstance(value, str) or len(value) <= _MAX_TEXT:
        return value
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{value[:_NUM_SHOWN]}… ({len(value)} characters, sha256 {digest})"
