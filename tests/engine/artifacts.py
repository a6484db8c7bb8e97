"""Adapters to be broken: the two files as values and bytes, and ways to damage them."""

import json
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class Artifact:
    """The bytes of an adapter's files."""

    config: bytes
    weights: bytes

    @classmethod
    def read(cls, directory: Path) -> "Artifact":
        return cls((directory / CONFIG).read_bytes(), (directory / WEIGHTS).read_bytes())

    def write(self, directory: Path) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / CONFIG).write_bytes(self.config)
        (directory / WEIGHTS).write_bytes(self.weights)
        return directory

    @property
    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(self.config)
        return fields

    @property
    def header(self) -> dict[str, Any]:
        header: dict[str, Any] = json.loads(self.weights[8 : self._data_start])
        return header

    @property
    def data(self) -> bytes:
        return self.weights[self._data_start :]

    @property
    def _data_start(self) -> int:
        length: int = struct.unpack("<Q", self.weights[:8])[0]
        return 8 + length

    def with_fields(self, **changes: Any) -> "Artifact":
        return replace(self, config=json.dumps(self.fields | changes).encode())

    def with_header(self, header: Any, data: bytes | None = None) -> "Artifact":
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        length = struct.pack("<Q", len(text))
        return replace(self, weights=length + text + (self.data if data is None else data))

    def with_entry(self, index: int, **changes: Any) -> "Artifact":
        """One tensor's entry in the header, changed."""
        header = self.header
        names = [name for name in header if name != "__metadata__"]
        header[names[index % len(names)]].update(changes)
        return self.with_header(header)


_KNOWN_FIELDS = [
    *("r", "lora_alpha", "target_modules", "exclude_modules", "rank_pattern", "alpha_pattern"),
    *("layers_to_transform", "layers_pattern", "use_rslora", "bias", "peft_type", "task_type"),
    *("init_lora_weights", "modules_to_save", "use_dora", "auto_mapping", "loftq_config"),
]
_PATTERNS = ["all-linear", ".*", "(a|a)*", "(" * 50, "q_proj", r"\1", "[", "(?i)x", "{9}", "layers"]
_texts = st.text(max_size=12) | st.sampled_from([*_PATTERNS, "e\ud800", ""])
_numbers = (
    st.integers(-3, 600)
    | st.sampled_from([2**31, 2**63, 2**64, -(2**80), 10**4000])
    | st.floats(allow_nan=True, allow_infinity=True)
)
_values = st.recursive(
    st.none() | st.booleans() | _numbers | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=6,
)
_sizes = st.integers(-1, 700) | st.sampled_from([2**31, 2**48, 2**62, 2**64]) | st.none()


def damaged_configs(sound: Artifact) -> st.SearchStrategy[Artifact]:
    """Fields of any kind, in a config that is else sound; or text that is not even JSON."""
    names = st.sampled_from(_KNOWN_FIELDS) | _texts
    fields = st.dictionaries(names, _values, min_size=1, max_size=3).map(
        lambda changes: sound.with_fields(**changes)
    )
    patterns = st.one_of(
        st.tuples(st.sampled_from(["target_modules", "exclude_modules", "layers_pattern"]), _texts),
        st.tuples(
            st.sampled_from(["rank_pattern", "alpha_pattern"]),
            st.dictionaries(_texts, st.integers(1, 4), max_size=3),
        ),
    ).map(lambda change: sound.with_fields(**{change[0]: change[1]}))
    texts = _damaged(sound.config).map(lambda text: replace(sound, config=text))
    return fields | patterns | texts


def damaged_weights(sound: Artifact) -> st.SearchStrategy[Artifact]:
    """Entries that lie about their tensors; or bytes that are changed, cut or repeated."""
    entry = st.fixed_dictionaries(
        {},
        optional={
            "dtype": st.sampled_from(["F32", "F16", "BF16", "F64", "F8_E4M3", "I32", "", None, 7]),
            "shape": st.lists(_sizes, max_size=4),
            "data_offsets": st.lists(_sizes, max_size=3),
            "more": _values,
        },
    )
    entries = st.tuples(st.integers(0, 9), entry).map(
        lambda change: sound.with_entry(change[0], **change[1])
    )
    headers = st.dictionaries(_texts, _values, max_size=3).map(
        lambda header: sound.with_header(sound.header | header)
    )
    files = _damaged(sound.weights).map(lambda data: replace(sound, weights=data))
    return entries | headers | files


def _damaged(data: bytes) -> st.SearchStrategy[bytes]:
    place = st.integers(0, len(data) - 1) | st.integers(0, 64)

    def overwrite(edits: list[tuple[int, int]]) -> bytes:
        changed = bytearray(data)
        for position, value in edits:
            changed[position] = value
        return bytes(changed)

    return (
        st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=4).map(overwrite)
        | place.map(lambda length: data[:length])
        | st.tuples(place, st.binary(max_size=9)).map(
            lambda edit: data[: edit[0]] + edit[1] + data[edit[0] :]
        )
        | st.binary(max_size=40)
    )
