"""What the tables say is stored, a page at a time, for who compares it with what is."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from sqlalchemy import func, inspect, select, tuple_
from sqlalchemy.orm import Session

from registry_service.models import Base, BlobRow, UploadChunkRow, VersionRow

Row = TypeVar("Row", bound=Base)

_PAGE = 500


def counts(session: Session) -> tuple[int, int, int]:
    """How many versions have bytes, how many pieces of uploads there are, how many blobs."""
    kept = select(func.count()).select_from(VersionRow).where(VersionRow.purge_time.is_(None))
    pieces = select(func.count()).select_from(UploadChunkRow)
    blobs = select(func.count()).select_from(BlobRow)
    found = [session.scalars(query).one() for query in (kept, pieces, blobs)]
    return found[0], found[1], found[2]


def versions(session: Session) -> Iterator[VersionRow]:
    """Versions that have bytes, those of equal bytes after each other."""
    key = (VersionRow.storage_path, VersionRow.tenant_id, VersionRow.adapter_id, VersionRow.number)
    query = select(VersionRow).where(VersionRow.purge_time.is_(None)).order_by(*key)

    def page(after: VersionRow | None) -> Sequence[VersionRow]:
        if after is None:
            return session.scalars(query.limit(_PAGE)).all()
        last = (after.storage_path, after.tenant_id, after.adapter_id, after.number)
        return session.scalars(query.where(tuple_(*key) > last).limit(_PAGE)).all()

    return _paged(session, page)


def chunks(session: Session) -> Iterator[UploadChunkRow]:
    """Pieces of uploads, each file's in order."""
    key = (UploadChunkRow.upload_id, UploadChunkRow.file_name, UploadChunkRow.offset)
    query = select(UploadChunkRow).order_by(*key)

    def page(after: UploadChunkRow | None) -> Sequence[UploadChunkRow]:
        if after is None:
            return session.scalars(query.limit(_PAGE)).all()
        last = (after.upload_id, after.file_name, after.offset)
        return session.scalars(query.where(tuple_(*key) > last).limit(_PAGE)).all()

    return _paged(session, page)


def blobs(session: Session) -> Iterator[BlobRow]:
    query = select(BlobRow).order_by(BlobRow.storage_path)

    def page(after: BlobRow | None) -> Sequence[BlobRow]:
        if after is None:
            return session.scalars(query.limit(_PAGE)).all()
        rest = query.where(BlobRow.storage_path > after.storage_path)
        return session.scalars(rest.limit(_PAGE)).all()

    return _paged(session, page)


def known_paths(session: Session, paths: Sequence[str]) -> set[str]:
    """Those of `paths` that are blobs."""
    query = select(BlobRow.storage_path).where(BlobRow.storage_path.in_(paths))
    return set(session.scalars(query))


def refresh(session: Session, row: Row) -> Row | None:
    """The row as it is now; None when it is gone."""
    session.rollback()
    identity = inspect(row).identity
    return session.get(type(row), identity, populate_existing=True)


def _paged(session: Session, page: Callable[[Row | None], Sequence[Row]]) -> Iterator[Row]:
    """No transaction stays open while the rows of a page are looked into."""
    last: Row | None = None
    while rows := page(last):
        session.expunge_all()
        session.rollback()
        yield from rows
        last = rows[-1]
