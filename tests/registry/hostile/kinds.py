"""All kinds of hostility, and what the registry must say to each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import grpc

from adapter_format.violation import UNSAFE, Reason
from tests.registry.hostile.draft import Draft

# Spoils a draft; returns the fields of which at least one must be named.
Variant = Callable[[Draft, Random], str | Sequence[str]]

_BASE = {Reason.BASE_MODEL_OTHER, Reason.BASE_REVISION_OTHER}


@dataclass(frozen=True)
class Kind:
    """What is wrong, and why it is refused; `variants` are ways to be wrong like that."""

    title: str
    reason: Reason | None
    variants: tuple[Variant, ...]
    # The draft's dtype, where the kind is about one.
    dtype: str | None = None

    @property
    def code(self) -> grpc.StatusCode:
        if self.reason is None:
            return grpc.StatusCode.RESOURCE_EXHAUSTED
        if self.reason in _BASE:
            return grpc.StatusCode.FAILED_PRECONDITION
        return grpc.StatusCode.INVALID_ARGUMENT

    @property
    def error_reason(self) -> str:
        """The reason of the error as a whole."""
        if self.reason is None:
            return "QUOTA_EXCEEDED"
        if self.reason in _BASE:
            return "BASE_MODEL_MISMATCH"
        if self.reason in {Reason.FILE_INCOMPLETE, Reason.FILE_SHA256_MISMATCH}:
            return "UPLOAD_INCOMPLETE"
        return "UNSAFE_FORMAT" if self.reason in UNSAFE else "ADAPTER_INVALID"
