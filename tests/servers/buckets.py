"""Administers the S3 server as its only user."""

from typing import Any

import boto3
from botocore.config import Config

from tests.servers.ceph import S3Server


def s3_client(server: S3Server) -> Any:
    """A boto3 client over HTTP."""
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=server.region,
        aws_access_key_id=server.access_key_id,
        aws_secret_access_key=server.secret_access_key,
        config=Config(s3={"addressing_style": "path"}),
    )


def create_bucket(server: S3Server, name: str) -> None:
    s3_client(server).create_bucket(Bucket=name)
