"""What is wrong with an artifact, said so that it can be shown to whoever made it."""

from dataclasses import dataclass
from enum import StrEnum

MAX_SHOWN = 120


class Reason(StrEnum):
    """Why a thing is refused, in names that stay the same: programs may rely on them."""

    # Files
    FILE_NAME_REFUSED = "FILE_NAME_REFUSED"
    FILE_MISSING = "FILE_MISSING"
    FILE_REPEATED = "FILE_REPEATED"
    FILE_SIZE_INVALID = "FILE_SIZE_INVALID"
    FILE_SHA256_INVALID = "FILE_SHA256_INVALID"
    FILE_INCOMPLETE = "FILE_INCOMPLETE"
    FILE_SHA256_MISMATCH = "FILE_SHA256_MISMATCH"
    # JSON: the config, and the header of the weights
    JSON_INVALID = "JSON_INVALID"
    JSON_NOT_UTF8 = "JSON_NOT_UTF8"
    JSON_NOT_OBJECT = "JSON_NOT_OBJECT"
    JSON_TOO_DEEP = "JSON_TOO_DEEP"
    JSON_KEY_REPEATED = "JSON_KEY_REPEATED"
    JSON_CONSTANT = "JSON_CONSTANT"
    # Formats that hold or name code
    PICKLE = "PICKLE"
    ZIP_ARCHIVE = "ZIP_ARCHIVE"
    CODE_REFERENCE = "CODE_REFERENCE"
    # The config
    FIELD_UNKNOWN = "FIELD_UNKNOWN"
    FIELD_UNSUPPORTED = "FIELD_UNSUPPORTED"
    FIELD_TYPE = "FIELD_TYPE"
    BASE_WEIGHTS_CHANGED = "BASE_WEIGHTS_CHANGED"
    BASE_MODEL_OTHER = "BASE_MODEL_OTHER"
    BASE_REVISION_OTHER = "BASE_REVISION_OTHER"
    RANK_INVALID = "RANK_INVALID"
    RANK_TOO_LARGE = "RANK_TOO_LARGE"
    ALPHA_INVALID = "ALPHA_INVALID"
    TARGET_UNKNOWN = "TARGET_UNKNOWN"
    TARGET_NOT_ADAPTABLE = "TARGET_NOT_ADAPTABLE"
    TARGETS_EMPTY = "TARGETS_EMPTY"
    LAYERS_INVALID = "LAYERS_INVALID"
    PATTERN_INVALID = "PATTERN_INVALID"
    PATTERN_TOO_COSTLY = "PATTERN_TOO_COSTLY"
    # The header of the weights
    HEADER_MISSING = "HEADER_MISSING"
    HEADER_LENGTH = "HEADER_LENGTH"
    HEADER_START = "HEADER_START"
    HEADER_METADATA = "HEADER_METADATA"
    TENSOR_NAME_INVALID = "TENSOR_NAME_INVALID"
    TENSOR_ENTRY_INVALID = "TENSOR_ENTRY_INVALID"
    TENSOR_DTYPE_UNSUPPORTED = "TENSOR_DTYPE_UNSUPPORTED"
    TENSOR_SHAPE_INVALID = "TENSOR_SHAPE_INVALID"
    TENSOR_OFFSETS_INVALID = "TENSOR_OFFSETS_INVALID"
    TENSOR_SIZE_MISMATCH = "TENSOR_SIZE_MISMATCH"
    TENSORS_OVERLAP = "TENSORS_OVERLAP"
    TENSORS_GAP = "TENSORS_GAP"
    DATA_TRUNCATED = "DATA_TRUNCATED"
    DATA_TRAILING = "DATA_TRAILING"
    # The tensors, held against config and base model
    TENSOR_UNEXPECTED = "TENSOR_UNEXPECTED"
    TENSOR_MODULE_UNKNOWN = "TENSOR_MODULE_UNKNOWN"
    TENSOR_UNDECLARED = "TENSOR_UNDECLARED"
    TENSOR_UNPAIRED = "TENSOR_UNPAIRED"
    TENSOR_MISSING = "TENSOR_MISSING"
    TENSOR_SHAPE_MISMATCH = "TENSOR_SHAPE_MISMATCH"
    TENSOR_NOT_FINITE = "TENSOR_NOT_FINITE"


# Whoever reads such a thing carelessly runs its code.
UNSAFE = frozenset(
    {Reason.FILE_NAME_REFUSED, Reason.PICKLE, Reason.ZIP_ARCHIVE, Reason.CODE_REFERENCE}
)


@dataclass(frozen=True)
class Problem:
    """Why something is refused, before it is said of what."""

    reason: Reason
    description: str


@dataclass(frozen=True)
class Violation:
    """One refused thing: `field` is a file, a tensor or a field of a config."""

    field: str
    reason: Reason
    description: str


def shown(value: object) -> str:
    """A stranger's value, safe and short enough for an error: errors travel in HTTP/2 headers."""
    text = ascii(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…'"
