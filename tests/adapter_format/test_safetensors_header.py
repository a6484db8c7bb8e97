"""The header parser: each trick is refused, and no input makes it do anything but refuse."""

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from adapter_format.safetensors_header import (
    LENGTH_BYTES,
    MAX_HEADER_BYTES,
    HeaderError,
    SafetensorsHeader,
    header_length,
    parse_header,
)
from tests.registry.support import make_adapter

GOOD = save(make_adapter(modules=["self_attn.q_proj"]).tensors, metadata={"format": "pt"})


def parse(data: bytes) -> SafetensorsHeader:
    length = header_length(data[:LENGTH_BYTES], len(data), "w")
    return parse_header(data[LENGTH_BYTES : LENGTH_BYTES + length], len(data), "w")


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


def build(header: Any, data: bytes = b"\0" * 8) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_files_of_the_library_are_read() -> None:
    header = parse(GOOD)
    assert len(header.tensors) == 4
    assert header.tensors[-1].end + header.data_start == len(GOOD)


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"1234567",
        struct.pack("<Q", 0),
        struct.pack("<Q", MAX_HEADER_BYTES + 1) + b"{" * 100,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 3) + b"{}",
        build(b"[]", b""),
        build(b" {}", b""),
        build(b"\xff\xfe", b""),
        build(b'{"a":' * 50_000, b""),
        build(b'{"x":1,"x":1}'),
        build({}),
        build({"x": 1}),
        build({"x": entry(dtype="I8", shape=[8])}),
        build({"x": entry(dtype=["F32"])}),
        build({"x": entry(shape=[2.0])}),
        build({"x": entry(shape=[True, 2])}),
        build({"x": entry(shape=[-2])}),
        build({"x": entry(shape=[])}, b"\0" * 4),
        build({"x": entry(shape=[1] * 9 + [2])}),
        build({"x": entry(shape=[0], data_offsets=[0, 0])}, b""),
        build({"x": entry(shape=[2**62, 2])}),
        build({"x": entry(shape="2")}),
        build({"x": entry(data_offsets=[0])}),
        build({"x": entry(data_offsets=[8, 0])}),
        build({"x": entry(data_offsets=[0, 9])}),
        build({"x": entry(data_offsets=[4, 12])}, b"\0" * 12),
        build({"x": entry(data_offsets=[8, 16])}),
        build({"x": entry()}, b"\0" * 9),
        build({"x": entry()}, b"\0" * 7),
        build({"x": entry(extra=1)}),
        build({"x": {"dtype": "F32", "shape": [2]}}),
        build({"x": entry(), "y": entry()}),
        build({"x": entry(), "y": entry(data_offsets=[4, 12])}, b"\0" * 12),
        build({"x": entry(), "y": entry(data_offsets=[12, 20])}, b"\0" * 20),
        build({"../x": entry()}),
        build({"": entry()}),
        build({"x/y": entry()}),
        build({"x\u0000": entry()}),
        build({"\ud800": entry()}),
        build({"x" * 300: entry()}),
        build({"__metadata__": {"a": 1}, "x": entry()}),
        build({"__metadata__": ["a"], "x": entry()}),
    ],
)
def test_tricks_are_refused(file: bytes) -> None:
    with pytest.raises(HeaderError) as refused:
        parse(file)
    for violation in refused.value.violations:
        # What cannot be encoded could not be sent as an error.
        assert len(violation.field.encode()) <= 300
        assert violation.description.encode()


@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(HeaderError):
        parse(data)


@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, len(GOOD)),
)
def test_mutations_are_refused_or_consistent(edits: list[tuple[int, int]], length: int) -> None:
    data = bytearray(GOOD)
    for position, value in edits:
        data[position] = value
    _check_refused_or_consistent(bytes(data[: length or len(data)]))


_sizes = st.integers(-1, 5) | st.booleans() | st.just(2**70)
_entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", None]),
        "shape": st.lists(_sizes, max_size=3),
        "data_offsets": st.lists(_sizes | st.integers(0, 64), max_size=3),
    }
)


@given(st.dictionaries(st.text(max_size=4), _entries, max_size=3), st.integers(0, 64))
def test_structured_headers_are_refused_or_consistent(header: dict[str, Any], size: int) -> None:
    _check_refused_or_consistent(build(header, b"\0" * size))


def _check_refused_or_consistent(data: bytes) -> None:
    try:
        header = parse(data)
    except HeaderError:
        return
    position = 0
    for tensor in header.tensors:
        assert tensor.begin == position
        assert tensor.end > tensor.begin
        position = tensor.end
    assert header.data_start + position == len(data)
