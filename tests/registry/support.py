"""A client of the registry, and adapters to give it, for the tests of this folder."""

import hashlib
import json
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from grpc import aio
from safetensors.numpy import save

from lorikeet.rpc.errors import LorikeetError, from_rpc_error
from protos import registry_pb2 as pb
from protos import registry_pb2_grpc as rpc

BASE_CONFIG: Mapping[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 32,
}
BASE = "baseModels/tiny"
SOURCE = "example/tiny-llama"
REVISION = "r1"
# (in, out) of every projection of BASE_CONFIG.
SHAPES = {
    "self_attn.q_proj": (16, 16),
    "self_attn.k_proj": (16, 8),
    "self_attn.v_proj": (16, 8),
    "self_attn.o_proj": (16, 16),
    "mlp.gate_proj": (16, 24),
    "mlp.up_proj": (16, 24),
    "mlp.down_proj": (24, 16),
}
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


class Client:
    """Calls any RPC by name as one principal; failures are raised as typed errors.

    A call's deadline is after `seconds`.
    """

    def __init__(self, channel: aio.Channel, api_key: str, seconds: float = 30) -> None:
        make: Any = rpc
        self._seconds = seconds
        self._stubs = [
            make.AdapterRegistryStub(channel),
            make.ArtifactServiceStub(channel),
            make.AccessServiceStub(channel),
        ]
        self._metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()

    async def __call__(self, method: str, request: Any) -> Any:
        try:
            return await self._call(method, request)
        except aio.AioRpcError as error:
            raise from_rpc_error(error) from None

    async def stream(self, method: str, request: Any) -> AsyncIterator[Any]:
        try:
            async for response in self._call(method, request):
                yield response
        except aio.AioRpcError as error:
            raise from_rpc_error(error) from None

    def _call(self, method: str, request: Any) -> Any:
        stub = next(stub for stub in self._stubs if hasattr(stub, method))
        return getattr(stub, method)(request, metadata=self._metadata, timeout=self._seconds)


async def failure(client: Client, method: str, request: Any) -> LorikeetError:
    """The error of a call that must fail."""
    try:
        answer = await client(method, request)
    except LorikeetError as error:
        return error
    raise AssertionError(f"{method} answered {answer}")


WHO = pb.IdentifyCallerRequest()


def shape(error: LorikeetError, name: str) -> tuple[object, ...]:
    """What a caller sees of an error, but for the name it asked about."""
    details = sorted((key, value.replace(name, "X")) for key, value in error.metadata.items())
    return error.code, error.message.replace(name, "X"), error.reason, tuple(details)


def fields(error: LorikeetError) -> list[str]:
    return [violation.field for violation in error.violations]


@dataclass
class Adapter:
    """An adapter that the registry accepts, until a test breaks it."""

    config: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Any] = field(default_factory=dict)
    weights: bytes | None = None
    config_text: bytes | None = None

    def files(self) -> dict[str, bytes]:
        config = self.config_text or json.dumps(self.config).encode()
        weights = self.weights if self.weights is not None else save(self.tensors)
        return {CONFIG: config, WEIGHTS: weights}


def tensor_name(layer: int, module: str, matrix: str) -> str:
    return f"base_model.model.model.layers.{layer}.{module}.lora_{matrix}.weight"


def make_adapter(
    *, rank: int = 2, modules: Sequence[str] = ("self_attn.q_proj", "mlp.down_proj"), seed: int = 0
) -> Adapter:
    """Random A and B for `modules` of both layers of the base model."""
    random = np.random.default_rng(seed)
    tensors = {}
    for layer in range(BASE_CONFIG["num_hidden_layers"]):
        for module in modules:
            size_in, size_out = SHAPES[module]
            a, b = random.normal(size=(rank, size_in)), random.normal(size=(size_out, rank))
            tensors[tensor_name(layer, module, "A")] = a.astype(np.float32)
            tensors[tensor_name(layer, module, "B")] = b.astype(np.float32)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": SOURCE,
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": [module.rpartition(".")[2] for module in modules],
        "bias": "none",
        "inference_mode": True,
    }
    return Adapter(config, tensors)


def save_bfloat16(tensors: Mapping[str, Any]) -> bytes:
    """A safetensors file of float32 arrays as bfloat16 (their upper halves), which numpy lacks."""
    header, data = {}, b""
    for name, array in tensors.items():
        part = (array.view("<u4") >> 16).astype("<u2").tobytes()
        offsets = [len(data), len(data) + len(part)]
        header[name] = {"dtype": "BF16", "shape": list(array.shape), "data_offsets": offsets}
        data += part
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def declared(files: Mapping[str, bytes]) -> list[pb.ArtifactFile]:
    return [
        pb.ArtifactFile(
            file_name=name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
        )
        for name, data in files.items()
    ]


def chunks(
    upload: str, files: Mapping[str, bytes], size: int = 1000
) -> Iterable[pb.WriteArtifactRequest]:
    """The whole of `files`; only the first message names the upload."""
    for name, data in files.items():
        for offset in range(0, len(data), size):
            part = data[offset : offset + size]
            yield pb.WriteArtifactRequest(
                upload=upload, file_name=name, offset=offset, data=part, crc32=zlib.crc32(part)
            )
            upload = ""


async def start_and_write(client: Client, adapter: str, files: Mapping[str, bytes]) -> str:
    """An upload with all of its bytes, ready to be committed."""
    request = pb.StartUploadRequest(adapter=adapter, files=declared(files))
    upload = await client("StartUpload", request)
    written = await client("WriteArtifact", iter(list(chunks(upload.name, files))))
    assert all(file.committed_bytes == file.file.size_bytes for file in written.files)
    name: str = upload.name
    return name


async def publish(
    client: Client, adapter: str, files: Mapping[str, bytes], aliases: Sequence[str] = ()
) -> pb.AdapterVersion:
    upload = await start_and_write(client, adapter, files)
    version: pb.AdapterVersion = await client(
        "CommitUpload", pb.CommitUploadRequest(name=upload, aliases=aliases)
    )
    return version


async def read_file(client: Client, version: str, name: str, tenant: str = "") -> bytes:
    request = pb.ReadArtifactRequest(version=version, file_name=name, tenant=tenant)
    data = b""
    async for chunk in client.stream("ReadArtifact", request):
        assert chunk.offset == len(data)
        assert chunk.crc32 == zlib.crc32(chunk.data)
        assert len(chunk.data) <= 1024 * 1024
        data += chunk.data
    return data


def grants(*pairs: tuple[int, str]) -> list[pb.Grant]:
    return [pb.Grant(permission=permission, scope=scope) for permission, scope in pairs]  # type: ignore[arg-type]


USE = pb.PERMISSION_ADAPTERS_USE
PUBLISH = pb.PERMISSION_ADAPTERS_PUBLISH
ACT_AS = pb.PERMISSION_ACT_AS
ADMIN = pb.PERMISSION_ADMIN


async def make_tenant(admin: Client, tenant: str) -> None:
    await admin("CreateTenant", pb.CreateTenantRequest(tenant_id=tenant))


async def make_key(admin: Client, tenant: str, principal: str, granted: list[pb.Grant]) -> str:
    """A new principal with these grants, and a key of it."""
    created = await admin(
        "CreatePrincipal",
        pb.CreatePrincipalRequest(
            parent=f"tenants/{tenant}",
            principal_id=principal,
            principal=pb.Principal(grants=granted),
        ),
    )
    key = await admin("CreateApiKey", pb.CreateApiKeyRequest(principal=created.name))
    secret: str = key.secret
    return secret


async def make_base_model(admin: Client, identifier: str = "tiny", **changes: Any) -> pb.BaseModel:
    base = {
        "source": SOURCE,
        "known_as": ["other/name"],
        "revision": REVISION,
        "config_json": json.dumps(BASE_CONFIG),
        **changes,
    }
    request = pb.CreateBaseModelRequest(base_model_id=identifier, base_model=pb.BaseModel(**base))
    created: pb.BaseModel = await admin("CreateBaseModel", request)
    return created


async def make_registered(client: Client, tenant: str, adapter: str) -> str:
    """An adapter of the tiny base model without versions; returns its name."""
    request = pb.CreateAdapterRequest(
        parent=f"tenants/{tenant}", adapter_id=adapter, adapter=pb.Adapter(base_model=BASE)
    )
    created: pb.Adapter = await client("CreateAdapter", request)
    return created.name


DENIED = grpc.StatusCode.PERMISSION_DENIED
