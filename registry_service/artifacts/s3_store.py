"""Objects in a bucket of any server that speaks S3."""

import contextlib
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.client import Config

from registry_service.artifacts.object_store import ObjectMissingError, StoredObject
from registry_service.artifacts.s3_errors import S3_ERRORS, is_missing, unavailable

MAX_OBJECT_BYTES = 5 * 1024**3
"""What S3 takes in one request; more would need multipart uploads, which can be left half done."""


@dataclass(frozen=True)
class S3Options:
    """Where a bucket is and as whom it is used; empty credentials: boto3 finds its own.

    Times are in seconds; `attempts` is how often a request is made in all before it has failed.
    """

    bucket: str
    endpoint: str | None = None
    region: str | None = None
    prefix: str = ""
    ca_bundle: Path | None = None
    path_style: bool = False
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    connect_seconds: float = 2.0
    read_seconds: float = 5.0
    attempts: int = 2
    max_connections: int = 32


class S3ObjectStore:
    """Objects under one prefix of a bucket. The client is boto3's and safe between threads."""

    def __init__(self, options: S3Options) -> None:
        self._bucket = options.bucket
        self._prefix = f"{options.prefix.strip('/')}/".lstrip("/")
        self._client = make_client(options)

    def check(self) -> None:
        """Lists, writes, reads and removes, as the service will; raises what boto3 raises."""
        self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        probe = self._address(f"uploads/start-check/{secrets.token_hex(8)}")
        self._client.put_object(**probe, Body=b"lorikeet")
        self._client.get_object(**probe)["Body"].read()
        self._client.delete_object(**probe)

    def put_file(self, key: str, source: Path) -> None:
        with source.open("rb") as file, _translated(key):
            self._client.put_object(**self._address(key), Body=file)

    def put_bytes(self, key: str, data: bytes | bytearray) -> None:
        with _translated(key):
            self._client.put_object(**self._address(key), Body=data)

    def open(self, key: str, offset: int = 0) -> "S3Stream":
        first = {"Range": f"bytes={offset}-"} if offset else {}
        with _translated(key):
            answer = self._client.get_object(**self._address(key), **first)
        return S3Stream(key, answer["Body"])

    def size(self, key: str) -> int | None:
        try:
            with _translated(key):
                answer = self._client.head_object(**self._address(key))
        except ObjectMissingError:
            return None
        size: int = answer["ContentLength"]
        return size

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        with _translated(prefix):
            for page in pages:
                for item in page.get("Contents", []):
                    key = item["Key"].removeprefix(self._prefix)
                    yield StoredObject(key, item["Size"], item["LastModified"])

    def delete(self, keys: Iterable[str]) -> None:
        # One by one: servers differ in the checksums they want for a list of keys.
        for key in keys:
            with _translated(key):
                self._client.delete_object(**self._address(key))

    def presigned_url(self, key: str, seconds: int) -> str | None:
        url: str = self._client.generate_presigned_url(
            "get_object", Params=self._address(key), ExpiresIn=seconds
        )
        return url

    def close(self) -> None:
        self._client.close()

    def _address(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}


class S3Stream:
    """The body of an answer; its errors are the store's."""

    def __init__(self, key: str, body: Any) -> None:
        self._key = key
        self._body = body

    def read(self, size: int, /) -> bytes:
        with _translated(self._key):
            data: bytes = self._body.read(size)
            return data

    def close(self) -> None:
        self._body.close()


@contextlib.contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except S3_ERRORS as error:
        if is_missing(error):
            raise ObjectMissingError(key) from error
        raise unavailable(error) from error


def make_client(options: S3Options) -> Any:
    """A boto3 client with the limits of `options`."""
    config = Config(
        connect_timeout=options.connect_seconds,
        read_timeout=options.read_seconds,
        retries={"mode": "standard", "total_max_attempts": options.attempts},
        max_pool_connections=options.max_connections,
        s3={"addressing_style": "path" if options.path_style else "auto"},
        signature_version="s3v4",
        # Servers other than Amazon's refuse the checksums boto3 would add by itself.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.session.Session().client(
        "s3",
        endpoint_url=options.endpoint,
        region_name=options.region,
        aws_access_key_id=options.access_key_id,
        aws_secret_access_key=options.secret_access_key,
        verify=str(options.ca_bundle) if options.ca_bundle else None,
        config=config,
    )
