"""Settings: command line first, then LORIKEET_INFERENCE_* variables, then these defaults."""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ByteSize, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from inference_service.engine.config import EngineConfig
from inference_service.serving_limits import ServingLimits
from lorikeet.rpc.tls import ClientTlsFiles
from lorikeet.rpc.tool_call_parsers import ToolCallParser


class Settings(BaseSettings):
    """Everything the inference service can be told at start."""

    model_config = SettingsConfigDict(
        env_prefix="LORIKEET_INFERENCE_",
        cli_prog_name="python -m inference_service",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        frozen=True,
    )

    model: Annotated[Path, Field(description="directory of the base model's checkpoint")]
    base_model: Annotated[str, Field(description="id of the base model in the registry")]
    revision: Annotated[str, Field(description="refuse to start if the registry has another")] = ""
    registry: Annotated[str, Field(description="host:port of the registry")]
    credentials: Annotated[
        Path | None,
        Field(description='JSON file with {"inference": "<api key>"}; else registry_tls_cert'),
    ] = None
    listen: Annotated[str, Field(description="host:port; port 0 picks one")] = "127.0.0.1:50052"
    data_dir: Annotated[Path, Field(description="where adapters are kept on disk")]
    ready_file: Annotated[Path | None, Field(description="written once requests are served")] = None
    insecure: Annotated[bool, Field(description="allow plaintext beyond loopback")] = False
    tls_cert: Annotated[Path | None, Field(description="PEM certificate chain")] = None
    tls_key: Annotated[Path | None, Field(description="PEM key of the certificate")] = None
    tls_client_ca: Annotated[
        Path | None, Field(description="PEM authorities that must have signed every client")
    ] = None
    registry_tls: Annotated[bool, Field(description="trust the public authorities")] = False
    registry_tls_ca: Annotated[
        Path | None, Field(description="PEM authorities of the registry; turns TLS on")
    ] = None
    registry_tls_cert: Annotated[
        Path | None, Field(description="PEM certificate to show the registry; turns TLS on")
    ] = None
    registry_tls_key: Annotated[Path | None, Field(description="its PEM key")] = None
    metrics_listen: Annotated[
        str | None,
        Field(description="serve Prometheus metrics here, over TLS if there is a tls_cert"),
    ] = None
    otlp_endpoint: Annotated[
        str | None,
        Field(
            description="send OpenTelemetry traces to this http(s)://host:port; "
            "by default to OTEL_EXPORTER_OTLP_ENDPOINT, if that is set"
        ),
    ] = None
    log_format: Annotated[
        Literal["text", "json"], Field(description="lines for people or programs")
    ] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_model_len: Annotated[int, Field(ge=0, description="0: the model's own")] = 0
    memory: Annotated[
        ByteSize,
        Field(description="for KV and adapters; 0: 1GiB on a CPU, on a GPU what its share leaves"),
    ] = ByteSize(0)
    gpu_memory_utilization: Annotated[
        float | None,
        Field(gt=0, le=1, description="share of a GPU's memory to use; unset: 0.9; not for a CPU"),
    ] = None
    host_memory: Annotated[ByteSize, Field(description="for packed adapters outside of it")] = (
        ByteSize(1 << 30)
    )
    max_loras: Annotated[int, Field(ge=0, description="in the arena; 0: what fits")] = 0
    max_cpu_loras: Annotated[int, Field(ge=0, description="in host memory; 0: what fits")] = 0
    prefix_caching: Annotated[bool, Field(description="keep KV for prompts that begin alike")] = (
        True
    )
    cuda_graphs: Annotated[
        Literal["auto", "on", "off"], Field(description="replay recorded decode steps, on a GPU")
    ] = "auto"
    overlap: Annotated[
        Literal["auto", "on", "off"],
        Field(description="choose and launch a step while the one before it runs; auto: on a GPU"),
    ] = "auto"
    max_num_seqs: Annotated[int, Field(ge=1)] = 64
    max_num_batched_tokens: Annotated[int, Field(ge=16)] = 2048
    max_lora_rank: Annotated[int, Field(ge=1)] = 512
    num_threads: Annotated[
        int, Field(ge=0, description="0: one for a small model, else torch's choice")
    ] = 0

    tool_call_parser: Annotated[
        ToolCallParser | None,
        Field(description="of the base model, and of adapters whose profile names none"),
    ] = None
    engine_start_seconds: Annotated[
        float, Field(gt=0, description="for the engine to load its model; then it is started again")
    ] = 1800.0
    engine_stall_seconds: Annotated[
        float, Field(gt=0, description="without progress: longer than any step; then it is killed")
    ] = 60.0

    artifact_source: Annotated[
        Literal["registry", "s3", "auto"],
        Field(description="of adapters: its stream, or URLs it signs; auto: URLs where it has any"),
    ] = "registry"
    artifact_s3_ca: Annotated[
        Path | None, Field(description="PEM authorities of S3; else the system's")
    ] = None
    adapter_disk_budget: Annotated[ByteSize, Field(description="of adapters on disk")] = ByteSize(
        8 << 30
    )
    max_concurrent_calls: Annotated[
        int, Field(ge=1, description="of all methods: waiting and running requests, and watchers")
    ] = 4096
    max_waiting_requests: Annotated[int, Field(ge=1)] = 512
    max_waiting_requests_per_tenant: Annotated[int, Field(ge=0, description="0: no limit")] = 0
    tenant_max_concurrent_requests: Annotated[
        int, Field(ge=0, description="waiting and running, unless the tenant has its own; 0: any")
    ] = 0
    tenant_max_requests_per_minute: Annotated[int, Field(ge=0, description="likewise")] = 0
    tenant_max_tokens_per_minute: Annotated[
        int, Field(ge=0, description="of prompts and completions, likewise")
    ] = 0
    max_prefetches_per_tenant: Annotated[int, Field(ge=1, description="calls at a time")] = 4
    max_request_seconds: Annotated[float, Field(gt=0)] = 600.0
    slow_reader_seconds: Annotated[float, Field(gt=0)] = 10.0
    registry_deadline_seconds: Annotated[float, Field(gt=0)] = 2.0
    registry_lease_seconds: Annotated[
        float,
        Field(gt=0, le=60, description="for which what the registry said holds while it is away"),
    ] = 60.0
    registry_wait_seconds: Annotated[float, Field(gt=0, description="at start")] = 30.0
    warm_up_timeout_seconds: Annotated[
        float, Field(gt=0, description="NOT_SERVING at most so long while warm adapters load")
    ] = 300.0
    max_restored_adapters: Annotated[
        int, Field(ge=0, description="used last before a restart, loaded again after it")
    ] = 64
    shutdown_delay_seconds: Annotated[
        float, Field(ge=0, description="NOT_SERVING, but admitting: until routers have noticed")
    ] = 0.0
    shutdown_grace_seconds: Annotated[float, Field(ge=0, description="for running streams")] = 10.0
    stop_with_stdin: Annotated[
        bool, Field(description="end when standard input does: whoever started this has gone")
    ] = False

    def registry_tls_files(self) -> ClientTlsFiles | None:
        """How to reach the registry; None for plaintext."""
        files = (self.registry_tls_ca, self.registry_tls_cert, self.registry_tls_key)
        return ClientTlsFiles(*files) if self.registry_tls or any(files) else None

    def registry_api_key(self) -> str:
        """Empty where a client certificate says who this service is."""
        if self.credentials is not None:
            return read_api_key(self.credentials)
        if self.registry_tls_cert is None:
            raise CredentialsError("give --credentials, or a client certificate for the registry")
        return ""

    def default_serving_limits(self) -> ServingLimits:
        """Of a tenant that has none of its own."""
        return ServingLimits(
            max_concurrent_requests=self.tenant_max_concurrent_requests or None,
            max_requests_per_minute=self.tenant_max_requests_per_minute or None,
            max_tokens_per_minute=self.tenant_max_tokens_per_minute or None,
        )

    def engine_config(self) -> EngineConfig:
        return EngineConfig(
            model_path=str(self.model),
            device=self.device,
            dtype=self.dtype,
            max_model_len=self.max_model_len,
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.max_num_batched_tokens,
            max_lora_rank=self.max_lora_rank,
            max_loras=self.max_loras,
            max_cpu_loras=self.max_cpu_loras,
            memory_bytes=int(self.memory),
            gpu_memory_utilization=self.gpu_memory_utilization,
            cuda_graphs=self.cuda_graphs,
            overlap=self.overlap,
            host_memory_bytes=int(self.host_memory),
            prefix_caching=self.prefix_caching,
            num_threads=self.num_threads,
        )


class CredentialsError(ValueError):
    """The credentials file does not hold what this service needs."""


def read_api_key(path: Path) -> str:
    """The "inference" key of a credentials file; the message never shows its content."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CredentialsError(f"cannot read {path}: {type(error).__name__}") from None
    key = content.get("inference") if isinstance(content, dict) else None
    if not isinstance(key, str) or not key:
        raise CredentialsError(f'{path} has no "inference" key')
    return key
