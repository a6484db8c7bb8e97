"""What is in a registry's database and its store, seen without asking the registry."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry_service.artifacts.object_store import ObjectStore
from registry_service.config import load_settings
from registry_service.models import VersionRow
from registry_service.repository.engine import make_engine
from registry_service.stores import open_store
from tests.backends import Backend


@dataclass(frozen=True)
class Evidence:
    """The versions that exist, by adapter and number; every byte of each was read."""

    digests: dict[tuple[str, int], str]
    num_bytes: int


def read_everything(
    data_dir: Path, backend: Backend, known: frozenset[tuple[str, int]] = frozenset()
) -> Evidence:
    """Fails unless every version's files are stored, whole, with the digests of its row.

    Blocks. The bytes of `known` versions are not read.
    """
    settings = load_settings(["--data-dir", str(data_dir), *backend.arguments])
    store = open_store(settings)
    engine = make_engine(settings.resolved_database_url)
    with Session(engine) as session:
        rows = session.scalars(select(VersionRow).where(VersionRow.delete_time.is_(None))).all()
    engine.dispose()
    fresh = [row for row in rows if (row.adapter_id, row.number) not in known]
    num_bytes = sum(_check_files(store, row) for row in fresh)
    store.close()
    return Evidence({(row.adapter_id, row.number): row.digest for row in rows}, num_bytes)


def _check_files(store: ObjectStore, row: VersionRow) -> int:
    sizes = 0
    for file in row.files:
        key = f"{row.storage_path}/{file['file_name']}"
        stream = store.open(key)
        data = b"".join(iter(lambda: stream.read(2**20), b""))  # noqa: B023
        stream.close()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (
            file["size_bytes"],
            file["sha256"],
        ), f"{key} is not what version {row.number} of {row.adapter_id} says"
        sizes += len(data)
    assert sizes == row.size_bytes
    return sizes
