"""TLS from PEM files: a server's, which may be replaced while it runs, and a client's."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

logger = logging.getLogger(__name__)


class TlsFilesError(ValueError):
    """A certificate or key cannot be used; the message names the file and what is wrong."""


@dataclass(frozen=True)
class ServerTlsFiles:
    """PEM files of a server; with `client_ca`, only clients it has signed are let in."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.cert, self.key) + ((self.client_ca,) if self.client_ca else ())


def server_tls_files(
    cert: Path | None, key: Path | None, client_ca: Path | None
) -> ServerTlsFiles | None:
    """The files an operator named; None for plaintext, and no half of a configuration."""
    if cert and key:
        return ServerTlsFiles(cert, key, client_ca)
    if cert or key or client_ca:
        raise TlsFilesError("TLS needs both a certificate (tls_cert) and its key (tls_key)")
    return None


def server_credentials(files: ServerTlsFiles) -> grpc.ServerCredentials:
    """Credentials that follow the files; TlsFilesError when they cannot be used now."""
    reloader = _Reloader(files)
    # The stubs do not know that None keeps what is there.
    fetch: Callable[[], Any] = reloader.changed
    return grpc.dynamic_ssl_server_credentials(
        reloader.initial, fetch, require_client_authentication=files.client_ca is not None
    )


def channel_credentials(
    ca: Path | None = None, cert: Path | None = None, key: Path | None = None
) -> grpc.ChannelCredentials:
    """What a client trusts (by default the public authorities) and how it shows who it is.

    TlsFilesError when a file cannot be used.
    """
    if bool(cert) != bool(key):
        raise TlsFilesError("a client certificate needs both the certificate and its key")
    roots = None
    if ca:
        roots = _read(ca)
        _certificates(ca, roots)
    if cert is None or key is None:
        return grpc.ssl_channel_credentials(roots)
    return grpc.ssl_channel_credentials(roots, *_key_pair(cert, key))


@dataclass(frozen=True)
class ClientTlsFiles:
    """PEM files of a client that lives longer than its certificate; see `channel_credentials`."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        return channel_credentials(self.ca, self.cert, self.key)

    def stamp(self) -> object:
        """Differs once a file was written, replaced or removed."""
        return _stamp([path for path in (self.ca, self.cert, self.key) if path])


class _Reloader:
    """Reads the files again when one has changed; what cannot be used changes nothing.

    gRPC asks before every handshake, on a thread of its own.
    """

    def __init__(self, files: ServerTlsFiles) -> None:
        self._files = files
        self._stamp = _stamp(files.paths)
        self.initial = _server_configuration(files)

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        stamp = _stamp(self._files.paths)
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            configuration = _server_configuration(self._files)
        except TlsFilesError as error:
            logger.error("the new TLS files are not used: %s", error)
            return None
        logger.info("serving the new certificate of %s", self._files.cert)
        return configuration


def _server_configuration(files: ServerTlsFiles) -> grpc.ServerCertificateConfiguration:
    roots = None
    if files.client_ca:
        roots = _read(files.client_ca)
        _certificates(files.client_ca, roots)
    pairs: list[Any] = [_key_pair(files.cert, files.key)]
    return grpc.ssl_server_certificate_configuration(pairs, roots)


def _key_pair(cert: Path, key: Path) -> tuple[bytes, bytes]:
    """PEM of the key and of the chain, found to belong together."""
    chain, private = _read(cert), _read(key)
    leaf = _certificates(cert, chain)[0]
    try:
        public = load_pem_private_key(private, None).public_key()
    except (ValueError, TypeError) as error:  # TypeError: it is encrypted
        raise TlsFilesError(f"{key}: not an unencrypted private key in PEM") from error
    encoding = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*encoding) != leaf.public_key().public_bytes(*encoding):
        raise TlsFilesError(f"{key} is not the key of the certificate in {cert}")
    return private, chain


def _certificates(path: Path, pem: bytes) -> Sequence[x509.Certificate]:
    """The certificates of a file, the first of which must be valid now."""
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise TlsFilesError(f"{path}: no certificate in PEM") from error
    now = datetime.now(UTC)
    if now >= found[0].not_valid_after_utc:
        raise TlsFilesError(f"{path}: expired at {found[0].not_valid_after_utc.isoformat()}")
    if now < found[0].not_valid_before_utc:
        raise TlsFilesError(f"{path}: valid from {found[0].not_valid_before_utc.isoformat()} only")
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsFilesError(f"{path}: cannot be read: {error.strerror}") from error


def _stamp(paths: Sequence[Path]) -> tuple[tuple[int, ...] | None, ...]:
    """What differs once a file was written, replaced or removed."""
    return tuple(_file_stamp(path) for path in paths)


def _file_stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
