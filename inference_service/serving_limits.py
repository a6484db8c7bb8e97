"""What a tenant is granted by this server."""

from dataclasses import dataclass, replace
from typing import Self

from protos import registry_pb2


@dataclass(frozen=True)
class ServingLimits:
    """Of a count, None is no limit, and 0 lets nothing pass."""

    weight: float = 1.0
    max_concurrent_requests: int | None = None
    max_requests_per_minute: int | None = None
    max_tokens_per_minute: int | None = None

    def overridden(self, own: registry_pb2.ServingLimits) -> Self:
        """These limits, but for those that a tenant has of its own."""
        return replace(self, **{field.name: value for field, value in own.ListFields()})
