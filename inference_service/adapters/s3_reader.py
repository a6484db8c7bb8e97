"""Artifacts straight from S3, by URLs that the registry signs: no byte passes through it."""

import asyncio
import logging
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Final, Literal, Protocol

import urllib3
from urllib3.exceptions import HTTPError

from inference_service.adapters.download import ArtifactReader
from inference_service.adapters.registry_client import RegistryClient
from lorikeet.rpc.errors import FailedPreconditionError, UnavailableError, UnimplementedError
from protos import registry_pb2

logger = logging.getLogger(__name__)

_CHUNK_BYTES: Final = 1024 * 1024
_CONNECT_SECONDS: Final = 2.0
_READ_SECONDS: Final = 4.0  # less than a downloader waits for a chunk


class UrlSigner(Protocol):
    """The registry, as far as it is needed here."""

    async def download_url(self, version_name: str, file_name: str, *, tenant: str) -> str:
        """UNIMPLEMENTED when artifacts are not in S3."""


class S3Reader:
    """An ArtifactReader. A new URL for each read: one that expired is never used again."""

    def __init__(self, registry: UrlSigner, ca_bundle: Path | None = None) -> None:
        """Without `ca_bundle`, the authorities of the system are trusted."""
        self._registry = registry
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
            retries=False,  # the downloader's business, with another URL
            cert_reqs="CERT_REQUIRED",
            ca_certs=str(ca_bundle) if ca_bundle else None,
        )

    async def read_artifact(
        self, version_name: str, file_name: str, *, offset: int, tenant: str
    ) -> AsyncGenerator[registry_pb2.ReadArtifactResponse, None]:
        """One file from an offset, UNAVAILABLE when it breaks off or is refused."""
        try:
            url = await self._registry.download_url(version_name, file_name, tenant=tenant)
        except UnimplementedError as error:
            raise _no_urls() from error
        try:
            response = await asyncio.to_thread(self._open, url, offset)
            try:
                while data := await asyncio.to_thread(response.read, _CHUNK_BYTES):
                    # TCP and TLS check these bytes, and the sha256 in the end: the crc is a form.
                    yield registry_pb2.ReadArtifactResponse(
                        offset=offset, data=data, crc32=zlib.crc32(data)
                    )
                    offset += len(data)
            finally:
                await asyncio.to_thread(response.close)  # it may wait for a read that goes on
        except (HTTPError, OSError) as error:
            raise _unavailable(type(error).__name__) from error

    def _open(self, url: str, offset: int) -> urllib3.BaseHTTPResponse:
        """The answer's head; UNAVAILABLE unless its body is the file from `offset` on."""
        response = self._pool.request(
            "GET",
            url,
            headers={"Range": f"bytes={offset}-"},
            preload_content=False,
            decode_content=False,
            redirect=False,
        )
        begins_there = response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
        if response.status == 206 and begins_there:
            return response
        if response.status == 200 and offset == 0:
            return response
        response.close()
        raise _unavailable(f"status {response.status}")


class S3OrRegistryReader:
    """S3 where the registry's artifacts are there; else the registry's own stream."""

    def __init__(self, s3: S3Reader, registry: ArtifactReader) -> None:
        self._s3, self._registry = s3, registry
        self._has_urls = True

    async def read_artifact(
        self, version_name: str, file_name: str, *, offset: int, tenant: str
    ) -> AsyncGenerator[registry_pb2.ReadArtifactResponse, None]:
        if self._has_urls:
            try:
                chunks = self._s3.read_artifact(
                    version_name, file_name, offset=offset, tenant=tenant
                )
                async with aclosing(chunks):
                    async for chunk in chunks:
                        yield chunk
                return
            except FailedPreconditionError as error:
                if error.reason != _NO_URLS:
                    raise
                self._has_urls = False
                logger.warning("artifacts are not in S3: the registry's stream is read instead")
        chunks = self._registry.read_artifact(version_name, file_name, offset=offset, tenant=tenant)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk


def artifact_reader(
    source: Literal["registry", "s3", "auto"], registry: RegistryClient, ca_bundle: Path | None
) -> ArtifactReader:
    """As the setting says; nothing falls back in silence."""
    if source == "registry":
        return registry
    s3 = S3Reader(registry, ca_bundle)
    return s3 if source == "s3" else S3OrRegistryReader(s3, registry)


_NO_URLS: Final = "ARTIFACT_URLS_UNSUPPORTED"


def _no_urls() -> FailedPreconditionError:
    return FailedPreconditionError(
        "the registry keeps artifacts on its own disk: set --artifact-source to registry or auto",
        reason=_NO_URLS,
    )


def _unavailable(what: str) -> UnavailableError:
    """Never with the URL: whoever has it can read the file."""
    logger.warning("S3 did not give a file: %s", what)
    return UnavailableError(
        "the artifact store cannot be reached", reason="ARTIFACT_STORE_UNAVAILABLE", retry_after=1.0
    )
