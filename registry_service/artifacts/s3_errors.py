"""boto3's errors: which mean an absent object, which an outage, and what an operator must do."""

import logging

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.exceptions import HTTPError

from lorikeet.rpc.errors import UnavailableError
from registry_service.artifacts.storage_errors import storage_unavailable

logger = logging.getLogger(__name__)

S3_ERRORS = (BotoCoreError, ClientError, HTTPError)
_MISSING = frozenset({"404", "NoSuchKey", "InvalidRange", "416"})
_ADVICE: dict[str, str] = {
    "NoSuchBucket": "create it, or correct --s3-bucket",
    "InvalidAccessKeyId": "the access key is not known there: correct the credentials",
    "SignatureDoesNotMatch": "the secret key is wrong: correct the credentials",
    "AccessDenied": "the credentials may not list, read, write and delete there: grant that",
    "PermanentRedirect": "the bucket is in another region: correct --s3-region",
    "AuthorizationHeaderMalformed": "the region is wrong: correct --s3-region",
}


def code_of(error: Exception) -> str:
    """S3's own word for what went wrong; empty when no answer came."""
    return str(error.response["Error"].get("Code", "")) if isinstance(error, ClientError) else ""


def is_missing(error: Exception) -> bool:
    return code_of(error) in _MISSING


def unavailable(error: Exception) -> UnavailableError:
    """The error for callers; the log gets the cause, which may name the bucket."""
    logger.warning("S3 failed: %s: %s", type(error).__name__, error)
    return storage_unavailable()


def start_advice(error: Exception, bucket: str, endpoint: str | None) -> str:
    """Why a start with this bucket fails, for the operator."""
    where = f"bucket {bucket!r} at {endpoint or 'Amazon S3'}"
    code = code_of(error)
    if code:
        return f"{where} refuses with {code}: {_ADVICE.get(code, str(error))}"
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return (
            f"no credentials for {where}: set s3_access_key_id and s3_secret_access_key, "
            "or any of the ways boto3 knows"
        )
    if isinstance(error, SSLError):
        return f"{where}: the certificate is not trusted: set --s3-ca-bundle ({error})"
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError | ReadTimeoutError):
        return f"{where} does not answer: is it running, and is --s3-endpoint right? ({error})"
    return f"{where} cannot be used: {error}"
