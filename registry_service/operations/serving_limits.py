"""What inference services grant a tenant: the fields of `Tenant.serving` and their ranges."""

import math
from collections.abc import Collection, Mapping
from typing import Any, Final

from protos import registry_pb2 as pb
from registry_service.models import TenantRow
from registry_service.requests import invalid

# A share of 1 beside one of MAX / MIN is as good as none.
MIN_WEIGHT: Final = 0.01
MAX_WEIGHT: Final = 100.0

_COLUMNS: Final[Mapping[str, str]] = {
    "weight": "serving_weight",
    "max_concurrent_requests": "max_concurrent_requests",
    "max_requests_per_minute": "max_requests_per_minute",
    "max_tokens_per_minute": "max_tokens_per_minute",
}
SERVING_FIELDS: Final = tuple(pb.ServingLimits.DESCRIPTOR.fields_by_name)


def apply_serving(row: TenantRow, serving: pb.ServingLimits, paths: Collection[str]) -> None:
    """Checks and writes the fields that `paths` name; one that is not set is unset in the row."""
    for field in SERVING_FIELDS:
        if f"serving.{field}" in paths:
            setattr(row, _COLUMNS[field], _checked(serving, field))


def described_serving(row: TenantRow) -> Mapping[str, Any]:
    """The limits by field; None for one that is the inference service's default."""
    return {field: getattr(row, column) for field, column in _COLUMNS.items()}


def _checked(serving: pb.ServingLimits, field: str) -> float | None:
    if not serving.HasField(field):
        return None
    value: float = getattr(serving, field)
    path = f"tenant.serving.{field}"
    if field == "weight" and not (math.isfinite(value) and MIN_WEIGHT <= value <= MAX_WEIGHT):
        raise invalid(path, f"must be a number in [{MIN_WEIGHT}, {MAX_WEIGHT:g}]")
    if value < 0:
        raise invalid(path, "must not be negative; unset is the inference service's default")
    return value
