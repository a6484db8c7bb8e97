"""Getting versions in and out without a directory to push: import in place, verified download."""

import hashlib
import uuid
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from lorikeet.operations.call import Drain, Operation, Pause, StreamCall, unary
from lorikeet.operations.naming import adapter_name, version_name
from lorikeet.operations.upload import FIRST_PAUSE, MAX_FAILURES, ProgressCallback
from lorikeet.operations.versions import get_version
from lorikeet.rpc.errors import DataLossError, InvalidArgumentError, UnavailableError
from protos import registry_pb2 as pb

_SERVICE = "lorikeet.registry.v1.ArtifactService"
_IMPORT_TIMEOUT = 300.0  # the registry copies and validates every byte


def import_adapter(
    adapter: str,
    prefix: str,
    *,
    aliases: Iterable[str] = (),
    profile: pb.AdapterProfile | None = None,
    labels: Mapping[str, str] | None = None,
) -> Operation[pb.AdapterVersion]:
    """Makes a version of the files at `prefix` of the tenant's import area in the registry's store.

    They are copied and validated: what becomes of them later does not matter. Safe to be cut off,
    since repeated requests of one call make one version.
    """
    request = pb.ImportArtifactRequest(
        adapter=adapter_name(adapter),
        prefix=prefix,
        aliases=aliases,
        profile=profile,
        labels=labels,
        request_id=uuid.uuid4().hex,
    )
    failures = 0
    while True:
        try:
            return (
                yield from unary(
                    f"{_SERVICE}/ImportArtifact", request, pb.AdapterVersion, _IMPORT_TIMEOUT
                )
            )
        except UnavailableError:
            failures += 1
            if failures > MAX_FAILURES:
                raise
            yield Pause(FIRST_PAUSE * 2**failures)


def download(
    version: str, directory: str | Path, *, on_progress: ProgressCallback | None = None
) -> Operation[pb.AdapterVersion]:
    """Writes the files of a version (`tenant/adapter@3`) into a directory, which is created.

    A file appears under its name once it has the registered digest. A broken connection is resumed
    where it broke. InvalidArgumentError when a file is there already; DataLossError when the
    registry's copy is damaged.
    """
    found = yield from get_version(version)
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    total, done = sum(file.size_bytes for file in found.files), 0
    for file in found.files:
        part = _part(target, file.file_name)
        try:
            yield from _fetch(version_name(version), file, part, done, total, on_progress)
            part.rename(target / file.file_name)
        finally:
            part.unlink(missing_ok=True)
        done += file.size_bytes
    return found


def _part(directory: Path, name: str) -> Path:
    """Where a file grows until it is whole."""
    if Path(name).name != name or name.startswith("."):
        raise DataLossError(f"the registry names a file {name!r}", reason="ARTIFACT_CORRUPT")
    if (directory / name).exists():
        raise InvalidArgumentError(
            f"{directory / name} is there already: choose another directory", reason="FILE_EXISTS"
        )
    return directory / f".{name}.part"


def _fetch(
    version: str,
    file: pb.ArtifactFile,
    part: Path,
    before: int,
    total: int,
    on_progress: ProgressCallback | None,
) -> Operation[None]:
    digest, failures, offset = hashlib.sha256(), 0, 0
    with part.open("wb") as output:

        def take(response: pb.ReadArtifactResponse) -> None:
            nonlocal offset
            if response.offset != offset or zlib.crc32(response.data) != response.crc32:
                raise DataLossError(
                    f"{file.file_name}: the bytes at {offset} were damaged on the way",
                    reason="CHUNK_CORRUPT",
                )
            output.write(response.data)
            digest.update(response.data)
            offset += len(response.data)
            if on_progress:
                on_progress(before + offset, total)

        while offset < file.size_bytes:
            started = offset
            try:
                yield Drain(_read_call(version, file.file_name, offset), take)
            except UnavailableError:
                failures = 1 if offset > started else failures + 1
                if failures > MAX_FAILURES:
                    raise
                yield Pause(FIRST_PAUSE * 2**failures)
                continue
            break
    if offset != file.size_bytes or digest.hexdigest() != file.sha256:
        raise DataLossError(
            f"{file.file_name} does not have the registered sha256: ask the registry's operator "
            "to run `lorikeet registry fsck`",
            reason="ARTIFACT_CORRUPT",
        )


def _read_call(version: str, name: str, offset: int) -> StreamCall[pb.ReadArtifactResponse]:
    request = pb.ReadArtifactRequest(version=version, file_name=name, offset=offset)
    return StreamCall(f"/{_SERVICE}/ReadArtifact", request, pb.ReadArtifactResponse)
