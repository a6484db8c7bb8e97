"""The object store on a real S3 server: contract, starts that must fail, outages, broken reads."""

import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lorikeet.rpc.errors import UnavailableError
from registry_service.artifacts.reading import ObjectReader
from registry_service.artifacts.s3_store import S3ObjectStore
from registry_service.bootstrap import StartError
from registry_service.config import load_settings
from registry_service.stores import open_store, s3_options
from tests.backends import POSTGRES_15, POSTGRES_18, Backend, Backends
from tests.registry.store_contract import check_store

MIB = 1024 * 1024
KEY = "tenants/a/sha256/00/file"


def arguments(backend: Backend, tmp_path: Path, **changes: str) -> list[str]:
    """The backend's S3 settings as a command line, without its database."""
    settings = {k: v for k, v in backend.settings.items() if k.startswith("s3_")} | changes
    place = ["--data-dir", str(tmp_path)]
    return place + Backend(backend.name, settings).arguments


def open_s3(backend: Backend, tmp_path: Path, **changes: str) -> S3ObjectStore:
    settings = load_settings(arguments(backend, tmp_path, **changes))
    assert settings.s3_bucket is not None
    return S3ObjectStore(s3_options(settings, settings.s3_bucket))


@pytest.mark.parametrize("backend", [POSTGRES_15, POSTGRES_18], indirect=True)
def test_the_contract(backend: Backend, tmp_path: Path) -> None:
    store = open_store(load_settings(arguments(backend, tmp_path)))
    check_store(store, tmp_path)
    store.close()


@pytest.mark.parametrize("backend", [POSTGRES_18], indirect=True)
@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"s3_bucket": "absent"}, "NoSuchBucket: create it"),
        ({"s3_secret_access_key": "wrong"}, "SignatureDoesNotMatch: the secret key is wrong"),
        ({"s3_access_key_id": "wrong"}, "InvalidAccessKeyId: the access key is not known"),
        ({"s3_ca_bundle": "/absent.pem"}, "is not a file of certificates"),
        ({"s3_ca_bundle": __file__}, "cannot be used|not trusted"),
        ({"s3_endpoint": "https://127.0.0.1:1"}, "does not answer: is it running"),
        ({"s3_endpoint": "nonsense"}, "cannot be used: Invalid endpoint"),
        ({"max_artifact_bytes": str(6 * 1024**3)}, "max-artifact-bytes may be"),
    ],
)
def test_a_start_that_fails_says_what_to_do(
    backend: Backend, tmp_path: Path, changes: dict[str, str], complaint: str
) -> None:
    with pytest.raises(StartError, match=complaint) as refused:
        open_store(load_settings(arguments(backend, tmp_path, **changes)))
    assert backend.settings["s3_secret_access_key"] not in str(refused.value)


@pytest.mark.parametrize("backend", [POSTGRES_15], indirect=True)
def test_a_silent_server_is_given_up_in_time_and_found_again(
    backend: Backend, backends: Backends, tmp_path: Path
) -> None:
    store = open_s3(backend, tmp_path, s3_connect_seconds="0.5", s3_read_seconds="1")
    store.put_bytes(KEY, b"x" * MIB)
    gateway = backends.servers.s3.process
    gateway.pause()
    try:
        for use in (store.open, store.size, lambda key: store.put_bytes(key, b"x")):
            began = time.monotonic()
            with pytest.raises(UnavailableError) as refused:
                use(KEY)
            assert refused.value.reason == "STORAGE_UNAVAILABLE"
            assert refused.value.retry_after is not None
            assert time.monotonic() - began < 8
    finally:
        gateway.resume()
    assert store.size(KEY) in (MIB, 1), "the write that was given up may have come through"


@pytest.mark.parametrize("backend", [POSTGRES_15, POSTGRES_18], indirect=True)
def test_a_url_reads_one_object_for_a_while(
    backend: Backend, backends: Backends, tmp_path: Path
) -> None:
    store = open_s3(backend, tmp_path, s3_endpoint=backends.servers.s3.endpoint)
    store.put_bytes(KEY, b"the bytes")
    url = store.presigned_url(KEY, 2)
    assert url is not None
    with closing(urllib.request.urlopen(url)) as answer:
        assert answer.read() == b"the bytes"
    for other in (url.replace("/file?", "/files?"), url.replace("Expires=2", "Expires=2000")):
        assert status_of(other) == 403
    time.sleep(3)
    assert status_of(url) == 403


def status_of(url: str) -> int:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url)
    refused.value.close()
    return refused.value.code


@pytest.mark.parametrize("backend", [POSTGRES_15], indirect=True)
@pytest.mark.parametrize("offset", [0, 12345])
def test_a_read_goes_on_where_its_connection_broke(
    backend: Backend, tmp_path: Path, offset: int
) -> None:
    data = bytes(range(256)) * 4096 * 8
    open_s3(backend, tmp_path).put_bytes(KEY, data)
    with CuttingProxy(backend.settings["s3_endpoint"], num_bytes=3 * MIB) as proxy:
        store = open_s3(backend, tmp_path, s3_endpoint=proxy.endpoint)
        with ObjectReader(store, KEY, offset, len(data)) as reader:
            read = b"".join(iter(lambda: reader.read(MIB), b""))
    assert read == data[offset:]
    assert proxy.num_cut >= 2, "this test must have cut something"


class CuttingProxy:
    """Passes connections on to a server; each ends after so many bytes of answers."""

    def __init__(self, endpoint: str, num_bytes: int) -> None:
        place = urlsplit(endpoint)
        assert place.hostname is not None
        self._upstream = (place.hostname, place.port or 80)
        self._num_bytes = num_bytes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.num_cut = 0

    def __enter__(self) -> "CuttingProxy":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(self._upstream)
        threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
        passed = 0
        for data in self._received(server):
            client.sendall(data)
            passed += len(data)
            if passed > self._num_bytes:
                self.num_cut += 1
                break
        for connection in (client, server):
            connection.close()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        for data in self._received(client):
            server.sendall(data)

    def _received(self, connection: socket.socket) -> Iterator[bytes]:
        try:
            while data := connection.recv(65536):
                yield data
        except OSError:
            return
