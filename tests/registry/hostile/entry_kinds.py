"""Hostile entries of the weights' header: names, types, shapes, offsets, and where data lie."""

from collections.abc import Callable
from random import Random
from typing import Any

from adapter_format.violation import Reason, shown
from tests.registry.hostile.draft import BYTES, Draft
from tests.registry.hostile.kinds import Kind, Variant
from tests.registry.support import WEIGHTS

_HUNDRED_GB = 100 * 10**9
_ENTRY = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
_CONTROL = "\0\n\r\t\x1b\x7f\u202e\u2028\ud7ff"
_OTHER_DTYPES: tuple[Any, ...] = ("F64", "I64", "F8_E4M3", "BOOL", "f32", "", 1, None, {})


def _entry(field: str, make: Callable[[Any, Random], Any]) -> Variant:
    """Another value in one field of one tensor."""

    def spoil(draft: Draft, random: Random) -> str:
        name = random.choice(draft.tensors)
        draft.entries[name][field] = make(draft.entries[name][field], random)
        return name

    return spoil


def _named(make: Callable[[Random], str]) -> Variant:
    """Another name for one tensor."""

    def spoil(draft: Draft, random: Random) -> str:
        old, new = random.choice(draft.tensors), make(random)
        draft.entries[new] = draft.entries.pop(old)
        return shown(new).strip("'")

    return spoil


def _fields_of_an_entry(draft: Draft, random: Random) -> str:
    name = random.choice(draft.tensors)
    entry = draft.entries[name]
    change = random.randrange(3)
    if change == 0:
        entry["strides"] = [1]
    elif change == 1:
        del entry[random.choice(sorted(entry))]
    else:
        draft.entries[name] = random.choice([None, [], "F32", 7, True])
    return name


def _overlap(draft: Draft, random: Random) -> str:
    index = random.randrange(1, len(draft.tensors))
    before, name = draft.tensors[index - 1 : index + 1]
    begin, end = draft.entries[before]["data_offsets"]
    shift = random.randrange(1, end - begin)
    draft.entries[name]["data_offsets"] = [at - shift for at in draft.entries[name]["data_offsets"]]
    return name


def _gap(draft: Draft, random: Random) -> str:
    index = random.randrange(len(draft.tensors))
    name, size = draft.tensors[index], random.randrange(1, 64)
    begin = draft.entries[name]["data_offsets"][0]
    for later in draft.tensors[index:]:
        offsets = draft.entries[later]["data_offsets"]
        draft.entries[later]["data_offsets"] = [at + size for at in offsets]
    draft.data[begin:begin] = random.randbytes(size)
    return name


def _declared_beyond(draft: Draft, random: Random) -> str:
    """The last tensor claims 100 GB that are not there."""
    name = draft.tensors[-1]
    entry = draft.entries[name]
    width = BYTES[entry["dtype"]]
    entry["shape"] = [_HUNDRED_GB // width]
    begin = entry["data_offsets"][0]
    entry["data_offsets"] = [begin, begin + _HUNDRED_GB]
    return WEIGHTS


def _cut(draft: Draft, random: Random) -> str:
    del draft.data[random.randrange(len(draft.data)) :]
    return WEIGHTS


def _longer(draft: Draft, random: Random) -> str:
    draft.data += random.randbytes(random.randrange(1, 5000))
    return WEIGHTS


def _crowded(entries: list[str], named: str) -> Variant:
    """As many entries as fit: what a reader makes of them takes many times the file's size."""

    def spoil(draft: Draft, random: Random) -> str:
        entry = random.choice(entries)
        count = random.choice([10_000, 100_000, 1_000_000]) // (len(entry) + 10)
        draft.header_text = (
            "{" + ",".join(f'"{n:x}":{entry}' for n in range(count)) + "}"
        ).encode()
        return named

    return spoil


ENTRY_KINDS = (
    Kind(
        "a hostile tensor name",
        Reason.TENSOR_NAME_INVALID,
        (
            _named(lambda r: r.choice(["../../etc/passwd", "/etc/shadow", "..", "a/b", "C:\\x"])),
            _named(lambda r: f"lora{r.choice(_CONTROL)}{r.random()}"),
            _named(lambda r: "x" * r.choice([257, 5000, 200_000])),
            _named(lambda r: r.choice(["", " ", "-a", ".a", "a b", "ｗeight", "é"])),
        ),
    ),
    Kind(
        "an entry with other fields",
        Reason.TENSOR_ENTRY_INVALID,
        (_fields_of_an_entry, _crowded(["{}", "[]", "0"], "0")),
    ),
    Kind(
        "a dtype that is not served",
        Reason.TENSOR_DTYPE_UNSUPPORTED,
        (_entry("dtype", lambda _, r: r.choice(_OTHER_DTYPES)),),
    ),
    Kind(
        "an impossible shape",
        Reason.TENSOR_SHAPE_INVALID,
        (
            _entry("shape", lambda s, r: r.choice([[], [0, 4], [-1, -4], [1] * 9, [2**60], None])),
            _entry("shape", lambda s, r: r.choice([[True, 4], [1.0, 4], ["1", 4], "44", {"0": 1}])),
        ),
    ),
    Kind(
        "impossible offsets",
        Reason.TENSOR_OFFSETS_INVALID,
        (
            _entry("data_offsets", lambda o, r: r.choice([[], [0], [0, 4, 8], None, "04", {}])),
            _entry("data_offsets", lambda o, r: r.choice([[-4, o[1]], [0.0, 4], [2**63, 2**64]])),
        ),
    ),
    Kind(
        "offsets that do not fit the shape",
        Reason.TENSOR_SIZE_MISMATCH,
        (
            _entry("data_offsets", lambda o, r: [o[0], o[1] + r.choice([-1, 1, 2, _HUNDRED_GB])]),
            _entry("data_offsets", lambda o, r: [o[1], o[0]]),
            _entry("shape", lambda s, r: [s[0] * r.randint(2, 2**20), s[1]]),
        ),
    ),
    Kind("tensors that overlap", Reason.TENSORS_OVERLAP, (_overlap, _crowded([_ENTRY], "1"))),
    Kind("a gap between tensors", Reason.TENSORS_GAP, (_gap,)),
    Kind("data that end too early", Reason.DATA_TRUNCATED, (_cut, _declared_beyond)),
    Kind("data that belong to no tensor", Reason.DATA_TRAILING, (_longer,)),
)
