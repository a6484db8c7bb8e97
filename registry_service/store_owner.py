"""One database, one object store: an object called "owner" says which database a store serves.

Without it a registry that is started with the wrong bucket would find its artifacts gone, and its
collector would take another registry's unfinished uploads for strays.
"""

import hashlib
import hmac

from sqlalchemy.orm import Session

from registry_service.artifacts.object_store import ObjectMissingError, ObjectStore
from registry_service.bootstrap import StartError
from registry_service.repository import versions

OWNER = "owner"
_MAX_BYTES = 128


def check_owner(session: Session, store: ObjectStore, secret: bytes) -> None:
    """Marks a store that nobody owns; StartError for one that is not this database's.

    `secret` is one of the database's own, from which its name in the store is derived.
    """
    name = hmac.new(secret, b"object store", hashlib.sha256).hexdigest()
    owner = _owner(store)
    if owner == name:
        return
    if owner is not None:
        raise StartError(
            "the object store belongs to a registry with another database: check the database's "
            "URL, the bucket and the prefix, or give this registry a prefix of its own; if that "
            f"other database is gone for good, delete the object {OWNER!r}"
        )
    _check_has_artifacts(session, store)
    store.put_bytes(OWNER, name.encode())


def _owner(store: ObjectStore) -> str | None:
    try:
        stream = store.open(OWNER)
    except ObjectMissingError:
        return None
    try:
        return stream.read(_MAX_BYTES).decode("ascii", "replace")
    finally:
        stream.close()


def _check_has_artifacts(session: Session, store: ObjectStore) -> None:
    """A store without an owner may still be the right one: as filled before there were owners."""
    version = versions.any_kept(session)
    if version is None:
        return
    key = f"{version.storage_path}/{version.files[0]['file_name']}"
    if store.size(key) is None:
        raise StartError(
            f"the database has versions, but the object store has not {key}: check the bucket and "
            "the prefix, or restore the objects that were backed up with the database"
        )
