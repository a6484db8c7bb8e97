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
from adapter_format.violation import Violation, shown

LENGTH_BYTES = 8
# The largest sane adapter needs a tenth of it; parsing takes many times its size in memory.
MAX_HEADER_BYTES = 4 * 1024 * 1024
# Formats an adapter may use, and the bytes of one element.
DTYPES: Mapping[str, int] = {"F32": 4, "F16": 2, "BF16": 2}

_METADATA = "__metadata__"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,255}")
_FIELDS = frozenset({"dtype", "shape", "data_offsets"})
_MAX_DIMENSIONS = 8
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
        raise _error(file_name, "is too short to be a safetensors file")
    length = int.from_bytes(prefix[:LENGTH_BYTES], "little")
    limit = min(MAX_HEADER_BYTES, file_size - LENGTH_BYTES)
    if not 2 <= length <= limit:
        raise _error(file_name, f"announces a header of {length} bytes: 2 to {limit} are allowed")
    return length


def parse_header(header: bytes, file_size: int, file_name: str) -> SafetensorsHeader:
    """Parses the JSON part of a file of `file_size` bytes; HeaderError names what is refused."""
    if header[:1] != b"{":
        raise _error(file_name, "its header does not begin with '{'")
    try:
        entries = parse_object(header)
    except StrictJsonError as error:
        raise _error(file_name, f"its header {error}") from error
    violations = _metadata_violations(entries.pop(_METADATA, {}), file_name)
    tensors = []
    for name, entry in entries.items():
        problem = _entry_problem(name, entry)
        if problem:
            violations.append(Violation(shown(name).strip("'"), problem))
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
    return [Violation(file_name, f"{_METADATA} must map strings to strings")]


def _entry_problem(name: str, entry: Any) -> str | None:
    """Why one tensor's entry is refused; None when it is not."""
    if not _NAME.fullmatch(name):
        return "is not a plain tensor name: use letters, digits, '.', '_' and '-', at most 256"
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        return "must have exactly the fields dtype, shape and data_offsets"
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in DTYPES:
        return f"has dtype {shown(entry['dtype'])}: save it as one of {', '.join(DTYPES)}"
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _are_sizes(shape) or not 1 <= len(shape) <= _MAX_DIMENSIONS or 0 in shape:
        return f"has shape {shown(shape)}: use 1 to {_MAX_DIMENSIONS} positive dimensions"
    if not _are_sizes(offsets) or len(offsets) != 2:
        return f"has data_offsets {shown(offsets)}: two byte positions are needed"
    expected = prod(shape) * DTYPES[entry["dtype"]]
    if offsets[1] - offsets[0] != expected:
        return f"has data_offsets {shown(offsets)}, but its shape needs {shown(expected)} bytes"
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
            kind = "overlaps the tensor before it" if tensor.begin < position else "leaves a gap"
            return [Violation(tensor.name, f"begins at byte {tensor.begin} and {kind}")]
        position = tensor.end
    if position != data_size:
        description = f"its tensors end at byte {position} of {data_size} bytes of data"
        return [Violation(file_name, description)]
    return []


def _error(file_name: str, description: str) -> HeaderError:
    return HeaderError([Violation(file_name, description)])
