"""Pushing a PEFT directory: declare the files, stream them, commit. Cut uploads go on by offset."""

import contextlib
import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.empty_pb2 import Empty

from lorikeet.operations.call import Call, Operation, Pause, send, unary
from lorikeet.operations.naming import adapter_name
from lorikeet.rpc.errors import InvalidArgumentError, LorikeetError, UnavailableError
from protos import registry_pb2 as pb

ProgressCallback = Callable[[int, int], None]
"""Called with (bytes sent, bytes in all)."""

_SERVICE = "lorikeet.registry.v1.ArtifactService"
_CHUNK_BYTES = 512 * 1024
_COMMIT_TIMEOUT = 300.0  # validation reads every tensor
MAX_FAILURES = 6  # in a row, without one more byte stored
FIRST_PAUSE = 0.25
# What an adapter is. Whatever else lies beside it (optimizer states, a tokenizer, notes) would
# only give the same weights another digest, and the registry takes no other files.
_FILES = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True)
class PeftDirectory:
    """The adapter files that PEFT's save_pretrained left in a directory."""

    path: Path
    files: tuple[pb.ArtifactFile, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @classmethod
    def read(cls, path: str | Path) -> "PeftDirectory":
        """Lists and hashes the files; InvalidArgumentError when it is not a PEFT adapter."""
        directory = Path(path)
        for name in _FILES:
            if not (directory / name).is_file():
                raise InvalidArgumentError(
                    f"{directory} is not a PEFT adapter directory: it has no {name}",
                    reason="NOT_AN_ADAPTER",
                )
        return cls(directory, tuple(_describe(directory / name) for name in _FILES))


def push(
    directory: str | Path,
    adapter: str,
    *,
    aliases: Iterable[str] = (),
    profile: pb.AdapterProfile | None = None,
    labels: Mapping[str, str] | None = None,
    on_progress: ProgressCallback | None = None,
) -> Operation[pb.AdapterVersion]:
    """Uploads a PEFT directory as the next version of an adapter (`tenant/adapter`).

    The version exists only once everything is stored and validated; `aliases` point at it from
    that moment. Without a `profile` it takes the adapter's. InvalidArgumentError carries a
    violation per refused file, tensor or field.
    """
    source = PeftDirectory.read(directory)
    request = pb.StartUploadRequest(adapter=adapter_name(adapter), files=source.files)
    upload = yield from unary(f"{_SERVICE}/StartUpload", request, pb.Upload)
    try:
        yield from _write(source, upload, on_progress)
        return (yield from _commit(upload.name, aliases, profile, labels))
    except LorikeetError as error:
        if not isinstance(error, UnavailableError):  # then there is nobody to tell
            with contextlib.suppress(LorikeetError):
                yield from _abort(upload.name)
        raise


def get_upload(name: str) -> Operation[pb.Upload]:
    """Where an upload stands."""
    return unary(f"{_SERVICE}/GetUpload", pb.GetUploadRequest(name=name), pb.Upload)


def _commit(
    name: str,
    aliases: Iterable[str],
    profile: pb.AdapterProfile | None,
    labels: Mapping[str, str] | None,
) -> Operation[pb.AdapterVersion]:
    request = pb.CommitUploadRequest(name=name, aliases=aliases, profile=profile, labels=labels)
    return unary(f"{_SERVICE}/CommitUpload", request, pb.AdapterVersion, _COMMIT_TIMEOUT)


def _abort(name: str) -> Operation[Empty]:
    return unary(f"{_SERVICE}/AbortUpload", pb.AbortUploadRequest(name=name), Empty)


def _write(
    source: PeftDirectory, upload: pb.Upload, on_progress: ProgressCallback | None
) -> Operation[None]:
    """Streams what is not stored yet, again from where it was cut, until all of it is."""
    failures, stored = 0, _stored_bytes(upload)
    while stored < source.size_bytes:
        try:
            if failures:
                upload = yield from get_upload(upload.name)
            upload = yield from send(_write_call(source, upload, on_progress))
        except UnavailableError:
            failures += 1
            if failures > MAX_FAILURES:
                raise
            yield Pause(FIRST_PAUSE * 2**failures)
        if _stored_bytes(upload) > stored:
            failures, stored = min(failures, 1), _stored_bytes(upload)


def _write_call(
    source: PeftDirectory, upload: pb.Upload, on_progress: ProgressCallback | None
) -> Call[pb.Upload]:
    def requests() -> Iterator[pb.WriteArtifactRequest]:
        done = _stored_bytes(upload)
        for request in _chunks(source.path, upload):
            yield request
            done += len(request.data)
            if on_progress:
                on_progress(done, source.size_bytes)

    return Call(f"/{_SERVICE}/WriteArtifact", requests, pb.Upload, timeout=None)


def _chunks(directory: Path, upload: pb.Upload) -> Iterator[pb.WriteArtifactRequest]:
    """The bytes after each file's committed offset; the first message names the upload."""
    name = upload.name
    for entry in upload.files:
        offset = entry.committed_bytes
        with (directory / entry.file.file_name).open("rb") as file:
            file.seek(offset)
            while data := file.read(_CHUNK_BYTES):
                yield pb.WriteArtifactRequest(
                    upload=name,
                    file_name=entry.file.file_name,
                    offset=offset,
                    data=data,
                    crc32=zlib.crc32(data),
                )
                name = ""
                offset += len(data)


def _stored_bytes(upload: pb.Upload) -> int:
    return sum(entry.committed_bytes for entry in upload.files)


def _describe(path: Path) -> pb.ArtifactFile:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return pb.ArtifactFile(file_name=path.name, size_bytes=path.stat().st_size, sha256=sha256)
