"""Hostile adapter_model.safetensors: what stands where its header must be."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

from adapter_format.violation import Reason
from tests.registry.hostile.draft import Draft
from tests.registry.hostile.kinds import Kind, Variant
from tests.registry.support import WEIGHTS

_HUNDRED_GB = 100 * 10**9


def _whole(make: Callable[[Draft, Random], bytes]) -> Variant:
    """Other bytes in place of the whole file."""

    def spoil(draft: Draft, random: Random) -> str:
        draft.weights = make(draft, random)
        return WEIGHTS

    return spoil


def _text(make: Callable[[bytes, Random], bytes]) -> Variant:
    """Another text in place of the header."""

    def spoil(draft: Draft, random: Random) -> str:
        draft.header_text = make(draft.header, random)
        return WEIGHTS

    return spoil


def _announced(make: Callable[[int, Random], int]) -> Variant:
    def spoil(draft: Draft, random: Random) -> str:
        draft.announced = make(len(draft.header), random)
        return WEIGHTS

    return spoil


def _metadata(make: Callable[[Random], Any]) -> Variant:
    def spoil(draft: Draft, random: Random) -> str:
        draft.entries["__metadata__"] = make(random)
        return WEIGHTS

    return spoil


def _pickled(draft: Draft, random: Random) -> bytes:
    """As torch.save wrote them; nothing here is ever loaded."""
    return pickle.dumps({"lora": [random.random()] * 50, "call": print}, random.randint(2, 5))


def _zipped(draft: Draft, random: Random) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(random.random()))
        archive.writestr("../escape.py", "raise SystemExit")
    return file.getvalue()


def _repeated_tensor(header: bytes, random: Random) -> bytes:
    name, entry = random.choice([*json.loads(header).items()])
    return header[:-1] + f", {json.dumps(name)}: {json.dumps(entry)}}}".encode()


def _repeated_field(header: bytes, random: Random) -> bytes:
    return header.replace(b'"dtype": ', b'"dtype": "F64", "dtype": ', 1)


def _deep(_: bytes, random: Random) -> bytes:
    depth = random.choice([40, 500, 900, 5000, 100_000])
    opened, closed = random.choice([(b"[", b"]"), (b'{"a":', b"}")])
    return b'{"x":' + opened * depth + b"1" + closed * depth + b"}"


def _without_quotes(header: bytes, random: Random) -> bytes:
    position = random.choice([i for i, byte in enumerate(header) if byte in b'":,'])
    return header[:position] + b"?" + header[position + 1 :]


def _other_byte(header: bytes, random: Random) -> bytes:
    position = random.randrange(1, len(header))
    return header[:position] + bytes([random.randrange(0x80, 0xC0)]) + header[position:]


HEADER_KINDS = (
    Kind(
        "no header", Reason.HEADER_MISSING, (_whole(lambda _, r: r.randbytes(r.randrange(1, 8))),)
    ),
    Kind(
        "a lie about the header's length",
        Reason.HEADER_LENGTH,
        (
            _announced(lambda n, r: r.choice([0, 1])),
            _text(lambda t, r: t[:-1] + b" " * r.choice([2**20, 2**22, 2**23]) + b"}"),
            _announced(lambda n, r: r.choice([2**63, 2**64 - 1, _HUNDRED_GB, 2**31 - 1, 2**40])),
        ),
    ),
    Kind(
        "a header that is not JSON",
        Reason.JSON_INVALID,
        (
            _announced(lambda n, r: n - r.randrange(1, n - 2)),
            _text(_without_quotes),
            _text(
                lambda t, r: t.replace(
                    b'"shape": [', b'"shape": [' + b"9" * r.choice([4400, 20_000])
                )
            ),
            _text(lambda t, r: t + b"{}"),
        ),
    ),
    Kind(
        "a header that begins otherwise",
        Reason.HEADER_START,
        (
            _text(lambda t, r: r.choice([b" ", b"\n", b"[", b"\xef\xbb\xbf", b"\0"]) + t),
            _text(lambda t, r: t.decode().encode("utf-16")),
        ),
    ),
    Kind("a header that is not UTF-8", Reason.JSON_NOT_UTF8, (_text(_other_byte),)),
    Kind(
        "a key twice in the header",
        Reason.JSON_KEY_REPEATED,
        (_text(_repeated_tensor), _text(_repeated_field)),
    ),
    Kind("a deep header", Reason.JSON_TOO_DEEP, (_text(_deep),)),
    Kind(
        "NaN in the header",
        Reason.JSON_CONSTANT,
        (
            _text(lambda t, r: t.replace(b'"shape": [', b'"shape": [NaN, ', 1)),
            _text(lambda t, r: t.replace(b'"data_offsets": [', b'"data_offsets": [-Infinity, ', 1)),
        ),
    ),
    Kind(
        "metadata that are not texts",
        Reason.HEADER_METADATA,
        (
            _metadata(lambda r: r.choice([[], "x", 1, None])),
            _metadata(lambda r: {"a": r.choice([1, None, {}])}),
        ),
    ),
    Kind("a pickle", Reason.PICKLE, (_whole(_pickled),)),
    Kind("a zip archive", Reason.ZIP_ARCHIVE, (_whole(_zipped),)),
)
