"""A sound adapter in parts, each of which may be spoilt before they are put together."""

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

from protos import registry_pb2 as pb
from tests.registry.support import CONFIG, SHAPES, WEIGHTS, make_adapter

BYTES = {"F32": 4, "F16": 2, "BF16": 2}


@dataclass
class Draft:
    """`entries` and `data` are the two parts of the weights; texts, once set, replace them.

    `others` are further files; `declared` replaces what is said of the files beforehand.
    """

    config: dict[str, Any]
    entries: dict[str, Any]
    data: bytearray
    config_text: bytes | None = None
    header_text: bytes | None = None
    announced: int | None = None
    weights: bytes | None = None
    others: dict[str, bytes] = field(default_factory=dict)
    declared: list[pb.ArtifactFile] | None = None

    @property
    def header(self) -> bytes:
        return self.header_text or json.dumps(self.entries).encode()

    @property
    def tensors(self) -> list[str]:
        """Names in file order."""
        return [name for name in self.entries if name != "__metadata__"]

    def files(self) -> dict[str, bytes]:
        weights = self.weights
        if weights is None:
            length = len(self.header) if self.announced is None else self.announced
            weights = length.to_bytes(8, "little") + self.header + bytes(self.data)
        config = self.config_text
        if config is None:
            config = json.dumps(self.config).encode()
        return {CONFIG: config, WEIGHTS: weights, **self.others}

    def declarations(self) -> list[pb.ArtifactFile]:
        return self.declared if self.declared is not None else describe(self.files())

    def drop(self, name: str) -> None:
        """Takes a tensor out, so that nothing but its absence is wrong."""
        begin, end = self.entries.pop(name)["data_offsets"]
        del self.data[begin:end]
        for other in self.tensors:
            offsets = self.entries[other]["data_offsets"]
            if offsets[0] >= end:
                self.entries[other]["data_offsets"] = [at - (end - begin) for at in offsets]

    def add(self, name: str, shape: list[int], dtype: str = "F32") -> None:
        """Appends a tensor of zeros."""
        size = BYTES[dtype] * int(np.prod(shape))
        offsets = [len(self.data), len(self.data) + size]
        self.entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        self.data += bytes(size)


def sound(random: Random, dtype: str | None = None) -> Draft:
    """An adapter the registry accepts: of some modules, some rank, some type."""
    modules = random.sample(sorted(SHAPES), random.randint(2, 4))
    adapter = make_adapter(rank=random.randint(1, 4), modules=modules, seed=random.randrange(10**9))
    dtype = dtype or random.choice(sorted(BYTES))
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = bytearray()
    for name, array in adapter.tensors.items():
        begin = len(data)
        data += encoded(array, dtype)
        entry = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [begin, len(data)]}
        entries[name] = entry
    return Draft(adapter.config, entries, data)


def encoded(array: Any, dtype: str) -> bytes:
    """Little-endian bytes; bfloat16, which numpy lacks, is the upper half of a float32."""
    if dtype == "BF16":
        upper: bytes = (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
        return upper
    plain: bytes = array.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()
    return plain


def describe(files: Mapping[str, bytes]) -> list[pb.ArtifactFile]:
    return [
        pb.ArtifactFile(
            file_name=name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
        )
        for name, data in files.items()
    ]


def writes(upload: str, draft: Draft) -> Iterator[pb.WriteArtifactRequest]:
    """The bytes of the files, but no more of each than was declared."""
    sizes = {file.file_name: file.size_bytes for file in draft.declarations()}
    for name, data in draft.files().items():
        for offset in range(0, min(len(data), sizes[name]), 1 << 20):
            part = data[offset : offset + (1 << 20)]
            yield pb.WriteArtifactRequest(
                upload=upload, file_name=name, offset=offset, data=part, crc32=zlib.crc32(part)
            )
