"""Settings: command line first, then `LORIKEET_REGISTRY_*`, then secret files, then defaults.

With `LORIKEET_REGISTRY_SECRETS_DIR` a setting may lie in a file of its name in that directory.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from registry_service.secret_files import check_secret_files

MIB = 1024 * 1024
_SECRETS_DIR = "LORIKEET_REGISTRY_SECRETS_DIR"


class Settings(BaseSettings):
    """What an operator may choose; every field is a `--kebab-case` flag too."""

    model_config = SettingsConfigDict(
        env_prefix="LORIKEET_REGISTRY_",
        cli_prog_name="python -m registry_service",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        hide_input_in_errors=True,  # a wrong value may be a secret in the wrong place
    )

    listen: str = Field("127.0.0.1:50051", description="address to listen on; port 0 picks one")
    data_dir: Path = Field(description="directory of the database, the objects and the uploads")
    database_url: SecretStr | None = Field(
        None, description="postgresql://… or sqlite://…; by default SQLite in the data directory"
    )
    database_seconds: float = Field(10.0, gt=0, description="longest a transaction may take")
    database_connect_seconds: float = Field(
        3.0, gt=0, description="longest to wait for a connection to PostgreSQL"
    )
    ready_file: Path | None = Field(None, description="written once the service answers")
    stop_with_stdin: bool = Field(
        False, description="end when standard input does: whoever started this has gone"
    )
    insecure: bool = Field(False, description="allow plaintext on an address others can reach")
    tls_cert: Path | None = Field(
        None, description="PEM certificate chain; a new one is used without a restart"
    )
    tls_key: Path | None = Field(None, description="PEM key of the certificate")
    tls_client_ca: Path | None = Field(
        None, description="PEM authorities that must have signed every client's certificate"
    )
    jwt_issuer: str = Field("", description="whose tokens are accepted: their `iss`")
    jwt_audience: str = Field("", description="what tokens must be meant for: their `aud`")
    jwt_jwks: str = Field("", description="the issuer's public keys: a file or an https URL")
    jwt_jwks_ca: Path | None = Field(
        None, description="PEM authorities of that URL; by default the public ones"
    )
    jwt_algorithms: str = Field("RS256,ES256", description="signatures accepted, with commas")
    jwt_tenant_claim: str = Field(
        "", description="claim that names the tenant of subjects that no principal has"
    )
    bootstrap_credentials: bool = Field(
        False, description="write the first API keys to a file although others can reach us"
    )
    max_artifact_bytes: int = Field(2048 * MIB, gt=0, description="bytes of one adapter version")
    max_lora_rank: int = Field(512, gt=0, description="largest rank of any adapted module")
    max_open_uploads: int = Field(64, gt=0, description="unfinished uploads of one tenant")
    default_max_bytes: int = Field(
        1024 * 1024 * MIB, ge=0, description="bytes of a tenant without a quota of its own"
    )
    default_max_adapters: int = Field(100_000, ge=0, description="adapters of such a tenant")
    default_max_versions: int = Field(10_000, ge=0, description="versions of each of them")
    purge_days: float = Field(30.0, ge=0, description="days until what was deleted is purged")
    upload_hours: float = Field(24.0, gt=0, description="hours until an unfinished upload expires")
    heartbeat_seconds: float = Field(1.0, gt=0, le=1, description="silence a watcher is left in")
    slow_watcher_seconds: float = Field(10.0, gt=0, description="until one that takes nothing ends")
    num_read_threads: int = Field(8, gt=0, description="database readers at a time")
    num_write_threads: int = Field(8, gt=0, description="PostgreSQL writers at a time")
    num_artifact_threads: int = Field(4, gt=0, description="files handled at a time")
    garbage_grace_hours: float = Field(
        24.0, gt=0, description="hours until bytes that no version needs are removed"
    )
    download_url_seconds: int = Field(
        300, gt=0, le=7 * 24 * 3600, description="seconds a download URL works (S3 only)"
    )
    s3_bucket: str | None = Field(
        None, description="keep artifacts in this bucket; by default in the data directory"
    )
    s3_endpoint: str | None = Field(None, description="URL of the S3 server; by default Amazon's")
    s3_region: str | None = Field(None, description="region of the bucket")
    s3_prefix: str = Field("", description="what every key in the bucket begins with")
    s3_ca_bundle: Path | None = Field(None, description="file of CA certificates the server needs")
    s3_path_style: bool = Field(False, description="address the bucket in the path, not the host")
    s3_access_key_id: str | None = Field(
        None, description="by default boto3 looks for credentials in its own ways"
    )
    s3_secret_access_key: SecretStr | None = Field(None, description="goes with the access key id")
    s3_connect_seconds: float = Field(2.0, gt=0, description="time to connect to S3")
    s3_read_seconds: float = Field(5.0, gt=0, description="time S3 may be silent")
    s3_attempts: int = Field(2, gt=0, description="how often a request to S3 is made in all")
    metrics_listen: str | None = Field(
        None, description="address to serve Prometheus metrics on, over TLS if there is a tls_cert"
    )
    otlp_endpoint: str | None = Field(
        None,
        description="send OpenTelemetry traces to this http(s)://host:port; "
        "by default to OTEL_EXPORTER_OTLP_ENDPOINT, if that is set",
    )
    log_format: Literal["text", "json"] = Field("text", description="lines for people or programs")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="at least")

    @property
    def resolved_database_url(self) -> str:
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite+pysqlite:///{self.data_dir.resolve()}/registry.db"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        assert isinstance(file_secret_settings, SecretsSettingsSource)
        files = SecretsSettingsSource(settings_cls, file_secret_settings.secrets_dir, env_prefix="")
        return init_settings, env_settings, files


def load_settings(arguments: Sequence[str]) -> Settings:
    """Settings for a command line without the program's name.

    SecretFilesError when a secret file is not fit to be one.
    """
    directory = os.environ.get(_SECRETS_DIR)
    if directory is not None:
        check_secret_files(Path(directory), Settings.model_fields)
    return Settings(_cli_parse_args=list(arguments), _secrets_dir=directory)  # type: ignore[call-arg]
