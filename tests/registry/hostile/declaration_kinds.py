"""Hostile declarations: what StartUpload is told of files, or bytes that are not the declared."""

from collections.abc import Callable
from random import Random

from adapter_format.violation import Reason
from protos import registry_pb2 as pb
from tests.registry.hostile.draft import Draft, describe
from tests.registry.hostile.kinds import Kind, Variant
from tests.registry.support import CONFIG, WEIGHTS

_NAMES = (
    *("adapter_model.bin", "pytorch_model.bin", "adapter_model.pt", "modeling_evil.py", "x.pkl"),
    *("../adapter_config.json", "/etc/passwd", "a/b", "..", "", ".", "CON", "adapter_config.JSON"),
    *("adapter_config.json\0", "adapter_config.json\n", "ａdapter_config.json", "x" * 100_000),
)
_HUNDRED_GB = 100 * 10**9


def _file(spoil_file: Callable[[pb.ArtifactFile, Random], None], index: int, field: str) -> Variant:
    """Something else said of the file at `index`."""

    def spoil(draft: Draft, random: Random) -> str:
        draft.declared = describe(draft.files())
        spoil_file(draft.declared[index], random)
        return f"files[{index}].{field}"

    return spoil


def _name(draft: Draft, random: Random) -> str:
    draft.declared = describe(draft.files())
    extra = pb.ArtifactFile(file_name=random.choice(_NAMES), size_bytes=1, sha256="0" * 64)
    draft.declared.append(extra)
    return "files[2].file_name"


def _size(file: pb.ArtifactFile, random: Random) -> None:
    file.size_bytes = random.choice([0, -1, -(2**63)])


def _large_config(file: pb.ArtifactFile, random: Random) -> None:
    file.size_bytes = random.choice([2**20 + 1, _HUNDRED_GB, 2**63 - 1])


def _sha256(file: pb.ArtifactFile, random: Random) -> None:
    digest = file.sha256
    file.sha256 = random.choice([digest.upper() + "A", digest[:-1], "", "g" * 64, "x" * 100_000])


def _missing(draft: Draft, random: Random) -> str:
    draft.declared = describe(draft.files())
    del draft.declared[random.randrange(2)]
    return "files"


def _none(draft: Draft, random: Random) -> str:
    draft.declared = []
    return "files"


def _repeated(draft: Draft, random: Random) -> str:
    draft.declared = describe(draft.files())
    draft.declared.append(draft.declared[random.randrange(2)])
    return "files[2].file_name"


def _beyond_quota(draft: Draft, random: Random) -> str:
    draft.declared = describe(draft.files())
    draft.declared[1].size_bytes = random.choice([_HUNDRED_GB, 2**40, 2**62])
    return ""


def _incomplete(draft: Draft, random: Random) -> str:
    name = random.choice([CONFIG, WEIGHTS])
    draft.declared = describe(draft.files())
    for file in draft.declared:
        if file.file_name == name:
            file.size_bytes += random.choice([1, 5000])
    return name


def _other_bytes(draft: Draft, random: Random) -> str:
    """One bit is not the one that was hashed."""
    draft.declared = describe(draft.files())
    position = random.randrange(len(draft.data))
    draft.data[position] ^= 1 << random.randrange(8)
    return WEIGHTS


DECLARATION_KINDS = (
    Kind("a file that is not accepted", Reason.FILE_NAME_REFUSED, (_name,)),
    Kind("a file that is missing", Reason.FILE_MISSING, (_missing, _none)),
    Kind("a file declared twice", Reason.FILE_REPEATED, (_repeated,)),
    Kind(
        "an impossible size",
        Reason.FILE_SIZE_INVALID,
        (
            _file(_size, 1, "size_bytes"),
            _file(_size, 0, "size_bytes"),
            _file(_large_config, 0, "size_bytes"),
        ),
    ),
    Kind("a hash that is none", Reason.FILE_SHA256_INVALID, (_file(_sha256, 1, "sha256"),)),
    Kind("100 GB declared", None, (_beyond_quota,)),
    Kind("bytes that never come", Reason.FILE_INCOMPLETE, (_incomplete,)),
    Kind("bytes other than hashed", Reason.FILE_SHA256_MISMATCH, (_other_bytes,)),
)
