"""The object store, layer by layer: address, certificate, credentials, bucket, bytes, clock."""

import secrets
import time
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from lorikeet.rpc.checklist import CheckFailed, Checklist, CheckSkipped
from lorikeet.rpc.reachability import Endpoint, check_endpoint
from registry_service.artifacts.s3_errors import S3_ERRORS, code_of, start_advice
from registry_service.artifacts.s3_store import S3Options, make_client
from registry_service.config import Settings
from registry_service.stores import s3_options

_MAX_SKEW_SECONDS = 300.0  # S3 refuses signatures that are further off than 15 minutes
_OURS = frozenset({"tenants/", "uploads/", "imports/"})
_BAD_CREDENTIALS = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "403"}
)


def check_s3(checklist: Checklist, settings: Settings) -> None:
    """Adds the checks of a bucket; without one, says why there are none."""
    bucket = settings.s3_bucket
    if bucket is None:
        checklist.run("s3.bucket", "S3", _no_bucket)
        return
    options = s3_options(settings, bucket)
    needs = []
    if options.endpoint:
        needs = [check_endpoint(checklist, "s3", _endpoint(options, options.endpoint))]
    bucket_check = _BucketChecks(options)
    checklist.run("s3.clock", "S3", bucket_check.clock, needs)
    steps = (
        ("s3.credentials", bucket_check.credentials),
        ("s3.bucket", bucket_check.exists),
        ("s3.read_write", bucket_check.read_write),
        ("s3.layout", bucket_check.layout),
    )
    for name, function in steps:
        checklist.run(name, "S3", function, needs)
        needs = [name]


def _no_bucket() -> str:
    raise CheckSkipped("no s3_bucket is set: artifacts lie in the data directory")


def _endpoint(options: S3Options, url: str) -> Endpoint:
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    return Endpoint(
        parts.hostname or "", parts.port or (443 if tls else 80), tls, options.ca_bundle
    )


class _BucketChecks:
    def __init__(self, options: S3Options) -> None:
        self._options = options
        self._client = make_client(options)
        self._prefix = f"{options.prefix.strip('/')}/".lstrip("/")

    def credentials(self) -> str:
        """A missing bucket is not their fault: that is the next check."""
        try:
            self._list()
        except ClientError as error:
            if code_of(error) in _BAD_CREDENTIALS:
                raise self._failure(error) from error
        except S3_ERRORS as error:
            raise self._failure(error) from error
        return f"{self._options.access_key_id or 'boto3’s own credentials'} is accepted"

    def exists(self) -> str:
        try:
            self._list()
        except S3_ERRORS as error:
            raise self._failure(error) from error
        return f"{self._options.bucket} can be listed"

    def read_write(self) -> str:
        key = f"{self._prefix}uploads/doctor/{secrets.token_hex(8)}"
        body = secrets.token_bytes(64)
        address = {"Bucket": self._options.bucket, "Key": key}
        try:
            self._client.put_object(**address, Body=body)
            read = self._client.get_object(**address)["Body"].read()
            self._client.delete_object(**address)
        except S3_ERRORS as error:
            raise self._failure(error) from error
        if read != body:
            raise CheckFailed(
                "what was read is not what was written", "look for a cache or proxy in between"
            )
        return "an object was written, read and deleted"

    def layout(self) -> str:
        """Adapters that were synced by hand lie where the registry does not look."""
        answer = self._list(Delimiter="/")
        names = {item["Prefix"] for item in answer.get("CommonPrefixes", ())}
        strange = sorted({name.removeprefix(self._prefix) for name in names} - _OURS)
        if strange:
            raise CheckFailed(
                f"below {self._prefix or 'the top'!r} lie {', '.join(strange[:5])}, "
                "which the registry does not know",
                "give it a prefix of its own (s3_prefix); adapters to import belong below "
                "imports/<tenant>/",
            )
        return "only what the registry keeps there"

    def clock(self) -> str:
        """Every answer has a date, a refusal too."""
        try:
            headers = self._list()["ResponseMetadata"]["HTTPHeaders"]
        except ClientError as error:
            headers = error.response["ResponseMetadata"]["HTTPHeaders"]
        except S3_ERRORS as error:
            raise self._failure(error) from error
        skew = time.time() - parsedate_to_datetime(headers["date"]).timestamp()
        if abs(skew) > _MAX_SKEW_SECONDS:
            raise CheckFailed(
                f"this clock and the S3 server's differ by {skew:.0f} s",
                "run NTP on both: signatures are refused when they differ by 15 minutes",
            )
        return f"within {max(1, round(abs(skew)))} s of the server's"

    def _list(self, **arguments: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.list_objects_v2(
            Bucket=self._options.bucket, Prefix=self._prefix, MaxKeys=1000, **arguments
        )
        return answer

    def _failure(self, error: Exception) -> CheckFailed:
        code = code_of(error)
        detail, _, advice = start_advice(
            error, self._options.bucket, self._options.endpoint
        ).partition(": ")
        if self._options.bucket in (urlsplit(self._options.endpoint or "").hostname or ""):
            advice = "the endpoint already has the bucket in its name: give it without"
        if code == "RequestTimeTooSkewed":
            advice = "this machine's clock is wrong: run NTP"
        return CheckFailed(detail, advice)
