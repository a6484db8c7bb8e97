"""The object store on files: the contract, and what files and links must not be able to do."""

import os
import threading
from pathlib import Path

import pytest

from registry_service.artifacts.local_store import LocalObjectStore
from registry_service.artifacts.object_store import ObjectMissingError
from tests.registry.store_contract import check_store


@pytest.fixture
def store(tmp_path: Path) -> LocalObjectStore:
    return LocalObjectStore(tmp_path / "objects")


def test_the_contract(store: LocalObjectStore, tmp_path: Path) -> None:
    check_store(store, tmp_path)
    assert list((tmp_path / "objects").iterdir()) == []
    assert store.presigned_url("tenants/a/b", 60) is None


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/.b", "a/b\n", "é"])
def test_other_keys_never_reach_the_disk(store: LocalObjectStore, key: str) -> None:
    for use in (store.open, store.size, lambda key: store.put_bytes(key, b"")):
        with pytest.raises(ValueError, match="is not an object key"):
            use(key)


def test_links_and_pipes_are_no_objects(store: LocalObjectStore, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_text("of somebody else")
    area = tmp_path / "objects" / "imports" / "a"
    area.mkdir(parents=True)
    (area / "directory").symlink_to(secret)
    (area / "link").symlink_to(secret / "file")
    os.mkfifo(area / "pipe")
    for key in ("directory/file", "link", "pipe"):
        with pytest.raises(ObjectMissingError):
            store.open(f"imports/a/{key}")
    assert list(store.entries("imports/a/")) == []


def test_putting_and_deleting_in_one_directory_at_a_time(store: LocalObjectStore) -> None:
    """Empty directories are pruned, never from under an object that is on its way."""

    def work(name: str) -> None:
        for _ in range(100):
            store.put_bytes(f"uploads/u/{name}", b"x")
            store.delete([f"uploads/u/{name}"])
        store.put_bytes(f"uploads/u/{name}", b"kept")

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(store.entries("uploads/"))) == 4


def test_what_a_crash_left_half_written_goes_at_the_next_start(tmp_path: Path) -> None:
    left = tmp_path / "objects" / "put-abc"
    left.mkdir(parents=True)
    (left / "file").write_text("half")
    LocalObjectStore(tmp_path / "objects").remove_unfinished()
    assert not left.exists()
