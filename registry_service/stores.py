"""The object store that the settings ask for, found to work."""

from registry_service.artifacts.local_store import LocalObjectStore
from registry_service.artifacts.object_store import ObjectStore
from registry_service.artifacts.s3_errors import S3_ERRORS, start_advice
from registry_service.artifacts.s3_store import MAX_OBJECT_BYTES, S3ObjectStore, S3Options
from registry_service.bootstrap import StartError
from registry_service.config import Settings


def open_store(settings: Settings, *, exclusive: bool = False) -> ObjectStore:
    """Blocks while it tries the bucket; StartError says what is wrong with it.

    `exclusive`: this process holds the lock of the data directory, and may tidy up there.
    """
    if settings.s3_bucket is None:
        store = LocalObjectStore(settings.data_dir / "objects")
        if exclusive:
            store.remove_unfinished()
        return store
    options = s3_options(settings, settings.s3_bucket)
    if settings.max_artifact_bytes > MAX_OBJECT_BYTES:
        raise StartError(f"with S3, --max-artifact-bytes may be {MAX_OBJECT_BYTES} at most")
    if options.ca_bundle is not None and not options.ca_bundle.is_file():
        raise StartError(f"--s3-ca-bundle {options.ca_bundle} is not a file of certificates")
    try:
        bucket = S3ObjectStore(options)
        bucket.check()
    except (*S3_ERRORS, ValueError) as error:
        advice = start_advice(error, options.bucket, options.endpoint)
        raise StartError(advice) from error
    return bucket


def s3_options(settings: Settings, bucket: str) -> S3Options:
    secret = settings.s3_secret_access_key
    return S3Options(
        bucket=bucket,
        endpoint=settings.s3_endpoint,
        region=settings.s3_region,
        prefix=settings.s3_prefix,
        ca_bundle=settings.s3_ca_bundle,
        path_style=settings.s3_path_style,
        access_key_id=settings.s3_access_key_id,
        secret_access_key=secret.get_secret_value() if secret else None,
        connect_seconds=settings.s3_connect_seconds,
        read_seconds=settings.s3_read_seconds,
        attempts=settings.s3_attempts,
    )
