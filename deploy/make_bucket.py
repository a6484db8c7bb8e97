"""Makes the bucket of the registry's settings, unless it is there; run before the registry."""

import sys

from botocore.exceptions import ClientError

from registry_service.artifacts.s3_store import make_client
from registry_service.config import load_settings
from registry_service.stores import s3_options


def main() -> None:
    settings = load_settings(sys.argv[1:])
    assert settings.s3_bucket, "LORIKEET_REGISTRY_S3_BUCKET names the bucket"
    client = make_client(s3_options(settings, settings.s3_bucket))
    try:
        client.create_bucket(Bucket=settings.s3_bucket)
    except (
        client.exceptions.BucketAlreadyOwnedByYou,
        client.exceptions.BucketAlreadyExists,
    ):
        client.head_bucket(Bucket=settings.s3_bucket)  # it is ours, or this says that it is not
    print(f"bucket {settings.s3_bucket} is there")


if __name__ == "__main__":
    try:
        main()
    except ClientError as error:
        sys.exit(f"make_bucket: {error}")
