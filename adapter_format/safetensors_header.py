"""The header of a safetensors file, read more strictly than the library does. Pure.

    | 8 bytes: n, little endian | n bytes: JSON | data: tensors back to back, nothing else |

The library accepts duplicate keys, shared zero-size ranges, unknown fields and hostile names; each
of these lets two readers see two different adapters in one file, so each is refused here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from adapter_format.strict_json import StrictJsonError, parse_object
from adapter_format.violation import Problem, Reason, Violation, shown

LENGTH_BYTES = 8
# All modules of 126 layers need a third of it; parsing takes up to fifty times its size in memory.
MAX_HEADER_BYTES = 1024 * 1024
# Formats an adapter may use, and the bytes of one element.
DTYPES: Mapping[str, int] = {"F32": 4, "F16": 2, "BF16": 2}

_METADATA = "__metadata__"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,255}")
_FIELDS = frozenset({"dtype", "shape", "data_offsets"})
_MAX_DIMENSIONS = 8
# How files begin that torch.save and others write; read as a length, each is beyond any header.
_FOREIGN = {
    b"PK\x03\x04": (Reason.ZIP_ARCHIVE, "a zip archive"),
    **{bytes((0x80, n)): (Reason.PICKLE, "a pickle") for n in range(2, 6)},
}
_MAX_SIZE = 2**48


class HeaderError(ValueError):
    """Every reason a header is refused."""

    def __init__(self, violations: list[Violation]) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations[:3]))
        self.violations = violations


@dataclass(frozen=True)
class TensorInfo:
    """One tensor; `begin` and `end` count from the first byte of the data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class SafetensorsHeader:
    """Tensors in file order, and where their data begins in the file."""

    tensors: tuple[TensorInfo, ...]
    data_start: int


def header_length(prefix: bytes, file_size: int, file_name: str) -> int:
    """The length announced by the file's first 8 bytes, once it is known to be sane."""
    if len(prefix) < LENGTH_BYTES:
        message = "is too short to be a safetensors file"
        raise _error(file_name, Reason.HEADER_MISSING, message)
    length = int.from_bytes(prefix[:LENGTH_BYTES], "little")
    limit = min(MAX_HEADER_BYTES, file_size - LENGTH_BYTES)
    if not 2 <= length <= limit:
        raise HeaderError([_bad_length(prefix, length, limit, file_name)])
    return length


def parse_header(header: bytes, file_size: int, file_name: str) -> SafetensorsHeader:
    """Parses the JSON part of a file of `file_size` bytes; HeaderError names what is refused."""
    if header[:1] != b"{":
        raise _error(file_name, Reason.HEADER_START, "its header does not begin with '{'")
    try:
        entries = parse_object(header)
    except StrictJsonError as error:
        raise _error(file_name, error.reason, f"its header {error}") from error
    violations = _metadata_violations(entries.pop(_METADATA, {}), file_name)
    tensors = []
    for name, entry in entries.items():
        problem = _entry_problem(name, entry)
        if problem:
            field = shown(name).strip("'")
            violations.append(Violation(field, problem.reason, problem.description))
        else:
            begin, end = entry["data_offsets"]
            tensors.append(TensorInfo(name, entry["dtype"], tuple(entry["shape"]), begin, end))
    data_start = LENGTH_BYTES + len(header)
    if not violations:
        violations = _layout_violations(tensors, file_size - data_start, file_name)
    if violations:
        raise HeaderError(violations)
    return SafetensorsHeader(tuple(sorted(tensors, key=lambda t: t.begin)), data_start)


def _metadata_violations(metadata: Any, file_name: str) -> list[Violation]:
    if isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values()):
        return []
    description = f"{_METADATA} must map strings to strings"
    return [Violation(file_name, Reason.HEADER_METADATA, description)]


def _entry_problem(name: str, entry: Any) -> Problem | None:
    """Why one tensor's entry is refused; None when it is not."""
    if not _NAME.fullmatch(name):
        return Problem(
            Reason.TENSOR_NAME_INVALID,
            "is not a plain tensor name: use letters, digits, '.', '_' and '-', at most 256",
        )
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        return Problem(
            Reason.TENSOR_ENTRY_INVALID,
            "must have exactly the fields dtype, shape and data_offsets",
        )
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in DTYPES:
        description = f"has dtype {shown(entry['dtype'])}: save it as one of {', '.join(DTYPES)}"
        return Problem(Reason.TENSOR_DTYPE_UNSUPPORTED, description)
    return _extent_problem(entry)


def _extent_problem(entry: Mapping[str, Any]) -> Problem | None:
    """Why shape and data_offsets are refused, by themselves or together."""
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _are_sizes(shape) or not 1 <= len(shape) <= _MAX_DIMENSIONS or 0 in shape:
        description = f"has shape {shown(shape)}: use 1 to {_MAX_DIMENSIONS} positive dimensions"
        return Problem(Reason.TENSOR_SHAPE_INVALID, description)
    if not _are_sizes(offsets) or len(offsets) != 2:
        description = f"has data_offsets {shown(offsets)}: two byte positions are needed"
        return Problem(Reason.TENSOR_OFFSETS_INVALID, description)
    expected = prod(shape) * DTYPES[entry["dtype"]]
    if offsets[1] - offsets[0] != expected:
        description = (
            f"has data_offsets {shown(offsets)}, but its shape needs {shown(expected)} bytes"
        )
        return Problem(Reason.TENSOR_SIZE_MISMATCH, description)
    return None


def _are_sizes(values: Any) -> bool:
    # `type` and not isinstance: true is an int to Python.
    return isinstance(values, list) and all(type(v) is int and 0 <= v <= _MAX_SIZE for v in values)


def _layout_violations(
    tensors: list[TensorInfo], data_size: int, file_name: str
) -> list[Violation]:
    """Tensors must fill the data exactly: no overlap, no gap, nothing before or behind."""
    position = 0
    for tensor in sorted(tensors, key=lambda t: (t.begin, t.end)):
        if tensor.begin != position:
            reason, kind = Reason.TENSORS_GAP, "leaves a gap"
            if tensor.begin < position:
                reason, kind = Reason.TENSORS_OVERLAP, "overlaps the tensor before it"
            return [Violation(tensor.name, reason, f"begins at byte {tensor.begin} and {kind}")]
        position = tensor.end
    if position != data_size:
        description = f"its tensors end at byte {position} of {data_size} bytes of data"
        reason = Reason.DATA_TRUNCATED if position > data_size else Reason.DATA_TRAILING
        return [Violation(file_name, reason, description)]
    return []


def _bad_length(prefix: bytes, length: int, limit: int, file_name: str) -> Violation:
    """What a file is that cannot begin with the length of a header."""
    for magic, (reason, kind) in _FOREIGN.items():
        if prefix.startswith(magic):
            description = f"is {kind}, which may hold code: save the adapter as safetensors"
            return Violation(file_name, reason, description)
    description = f"announces a header of {length} bytes: 2 to {limit} are allowed"
    return Violation(file_name, Reason.HEADER_LENGTH, description)


def _error(file_name: str, reason: Reason, description: str) -> HeaderError:
    return HeaderError([Violation(file_name, reason, description)])
