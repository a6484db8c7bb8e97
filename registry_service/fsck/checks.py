"""Compares rows with objects. Read only; what changed meanwhile is looked at again first."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice

from sqlalchemy.orm import Session

from lorikeet.rpc.digests import manifest_digest
from lorikeet.rpc.names import VersionName
from protos import registry_pb2 as pb
from registry_service.artifacts.keys import UPLOADS, VERSIONS, storage_path
from registry_service.artifacts.object_store import ObjectMissingError, ObjectStore
from registry_service.artifacts.reading import ObjectReader
from registry_service.fsck.findings import Finding, Problem
from registry_service.models import BlobRow, UploadChunkRow, VersionRow
from registry_service.repository import blobs, inventory, uploads

_LISTED = 500
_READ_BYTES = 1024 * 1024
_MAX_REMOVAL = timedelta(hours=1)

Advance = Callable[[], None]


class Checker:
    """`quick`: existence and size only. `grace`: younger objects may still get their rows."""

    def __init__(
        self, session: Session, store: ObjectStore, *, quick: bool, grace: timedelta
    ) -> None:
        self._session = session
        self._store = store
        self._quick = quick
        self._grace = grace

    def versions(self, advance: Advance) -> Iterator[Finding]:
        """Every version against its objects; equal bytes are read once."""
        rows = inventory.versions(self._session)
        for path, group in groupby(rows, lambda row: row.storage_path):
            sharing = list(group)
            found = [*self._manifests(sharing), *self._objects(sharing[0])]
            if found:
                yield from self._confirmed(sharing, path)
            for _ in sharing:
                advance()

    def chunks(self, advance: Advance) -> Iterator[Finding]:
        """Pieces of uploads against their objects, and that they follow each other."""
        rows = inventory.chunks(self._session)
        for (upload, name), group in groupby(rows, lambda row: (row.upload_id, row.file_name)):
            end = 0
            for row in group:
                resource = f"uploads/{upload} {name}"
                if row.offset != end:
                    detail = f"a piece begins at {row.offset}, the one before ends at {end}"
                    yield Finding(Problem.PIECES_GAP, resource, detail)
                end = row.offset + row.size_bytes
                yield from self._piece(row, resource)
                advance()

    def blobs(self, advance: Advance) -> Iterator[Finding]:
        """Removals that do not come to an end."""
        for row in inventory.blobs(self._session):
            if row.state == blobs.DELETING and _age(row.touch_time) > _MAX_REMOVAL:
                detail = f"is being removed since {row.touch_time:%Y-%m-%d %H:%M} UTC"
                yield Finding(Problem.REMOVAL_STUCK, row.storage_path, detail)
            advance()

    def strays(self) -> Iterator[Finding]:
        """Objects that nothing refers to, older than the grace."""
        yield from self._strays(VERSIONS, self._unknown_files)
        yield from self._strays(UPLOADS, self._unknown_pieces)

    def _confirmed(self, rows: list[VersionRow], path: str) -> Iterator[Finding]:
        """The same once more with what the tables say now: versions may just have been purged."""
        fresh = [inventory.refresh(self._session, row) for row in rows]
        kept = [row for row in fresh if row is not None and row.purge_time is None]
        if not kept:
            return
        names = ", ".join(_name(row) for row in kept[:3]) + (", …" if len(kept) > 3 else "")
        for finding in (*self._manifests(kept), *self._objects(kept[0])):
            yield Finding(finding.problem, names, f"{path}: {finding.detail}")

    def _manifests(self, rows: list[VersionRow]) -> Iterator[Finding]:
        for row in rows:
            digest = manifest_digest([pb.ArtifactFile(**file) for file in row.files])
            if (row.digest, row.storage_path) != (digest, storage_path(row.tenant_id, digest)):
                detail = f"the files of the row have the digest {digest}, the row says {row.digest}"
                yield Finding(Problem.MANIFEST_DIFFERS, _name(row), detail)

    def _objects(self, row: VersionRow) -> Iterator[Finding]:
        name = _name(row)
        blob = self._session.get(BlobRow, row.storage_path, populate_existing=True)
        self._session.rollback()
        if blob is None:
            yield Finding(Problem.BLOB_MISSING, name, "has no row in blobs")
        elif blob.state != blobs.STORED:
            yield Finding(Problem.BLOB_NOT_STORED, name, f"its blob is {blob.state!r}")
        for file in row.files:
            key = f"{row.storage_path}/{file['file_name']}"
            problem = self._object(key, file["size_bytes"], file["sha256"])
            if problem is not None:
                yield Finding(problem[0], name, f"{file['file_name']} {problem[1]}")

    def _object(self, key: str, size: int, sha256: str) -> tuple[Problem, str] | None:
        found = self._store.size(key)
        if found is None:
            return Problem.OBJECT_MISSING, "is missing"
        if found != size:
            return Problem.SIZE_DIFFERS, f"has {found} bytes instead of {size}"
        if self._quick:
            return None
        digest = hashlib.sha256()
        try:
            with ObjectReader(self._store, key, 0, size) as reader:
                while data := reader.read(_READ_BYTES):
                    digest.update(data)
        except ObjectMissingError:
            return Problem.OBJECT_MISSING, "went while it was read"
        if digest.hexdigest() != sha256:
            return Problem.BYTES_DIFFER, f"has the sha256 {digest.hexdigest()} instead of {sha256}"
        return None

    def _piece(self, row: UploadChunkRow, resource: str) -> Iterator[Finding]:
        size = self._store.size(row.object_key)
        if size != row.size_bytes and inventory.refresh(self._session, row) is not None:
            what = "is missing" if size is None else f"has {size} bytes, not {row.size_bytes}"
            yield Finding(Problem.PIECE_MISSING, resource, f"{row.object_key} {what}")

    def _strays(self, prefix: str, unknown: Callable[[list[str]], set[str]]) -> Iterator[Finding]:
        entries = self._store.entries(prefix)
        while page := list(islice(entries, _LISTED)):
            old = {entry.key: entry for entry in page if _age(entry.modified) > self._grace}
            for key in sorted(unknown(list(old))):
                detail = f"{old[key].size_bytes} bytes of {old[key].modified:%Y-%m-%d}"
                yield Finding(Problem.STRAY_OBJECT, key, detail)

    def _unknown_files(self, keys: list[str]) -> set[str]:
        paths = sorted({key.rpartition("/")[0] for key in keys})
        known = inventory.known_paths(self._session, paths)
        self._session.rollback()
        return {key for key in keys if key.rpartition("/")[0] not in known}

    def _unknown_pieces(self, keys: list[str]) -> set[str]:
        known = uploads.known_keys(self._session, keys)
        self._session.rollback()
        return set(keys) - known


def _name(row: VersionRow) -> str:
    return str(VersionName(row.tenant_id, row.adapter_id, str(row.number)))


def _age(time: datetime) -> timedelta:
    return datetime.now(UTC) - time
