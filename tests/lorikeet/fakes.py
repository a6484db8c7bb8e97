"""A real gRPC server whose services are test doubles: for what the client does, nothing else."""

import math
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc

from lorikeet.rpc.errors import LorikeetError, UnavailableError
from protos import inference_pb2 as inf
from protos import inference_pb2_grpc, registry_pb2_grpc
from protos import registry_pb2 as reg

DIGEST = "sha256:" + "0" * 64
VERSION = "tenants/acme/adapters/math/versions/3"


class FakeInference(inference_pb2_grpc.InferenceServicer):
    """Streams `words`; `error` comes in place of the completion; `endless` never completes.

    An adapter in `refusals` gets nothing else.
    """

    def __init__(self) -> None:
        self.words = ["Hello", " wor", "ld"]
        self.error: LorikeetError | None = None
        self.endless = False
        self.truncated = False
        self.requests: list[Any] = []
        self.metadata: dict[str, str] = {}
        self.cancelled = threading.Event()
        self.tool_calls: list[inf.ToolCall] = []
        self.tool_call_error = ""
        self.refusals: dict[str, LorikeetError] = {}
        self.info_failures = 0
        self.info_calls = 0

    def Generate(self, request: Any, context: Any) -> Iterator[inf.GenerateResponse]:  # noqa: N802
        return self._stream(request, context)

    def Chat(self, request: Any, context: Any) -> Iterator[inf.GenerateResponse]:  # noqa: N802
        return self._stream(request, context)

    def GetServerInfo(self, request: Any, context: Any) -> inf.ServerInfo:  # noqa: N802
        self.info_calls += 1
        if self.info_calls <= self.info_failures:
            _abort(context, UnavailableError("starting"))
        return inf.ServerInfo(
            base_model="baseModels/demo", base_weight_bytes=5_000_000_000, max_model_len=1000
        )

    def Tokenize(self, request: Any, context: Any) -> inf.TokenizeResponse:  # noqa: N802
        self.requests.append(request)
        return inf.TokenizeResponse(token_ids=[1, 2, 3])

    def Detokenize(self, request: Any, context: Any) -> inf.DetokenizeResponse:  # noqa: N802
        texts = [f"<{token_id}>" for token_id in request.token_ids]
        return inf.DetokenizeResponse(text="".join(texts), texts=texts if request.each else [])

    @property
    def finish_reason(self) -> inf.FinishReason:
        return inf.FINISH_REASON_TOOL_CALLS if self.tool_calls else inf.FINISH_REASON_STOP

    def _stream(self, request: Any, context: Any) -> Iterator[inf.GenerateResponse]:
        self.requests.append(request)
        self.metadata = dict(context.invocation_metadata())
        context.add_callback(self.cancelled.set)
        if request.adapter in self.refusals:
            _abort(context, self.refusals[request.adapter])
        start = inf.GenerateStart(
            request_id="r1", adapter_version=VERSION, digest=DIGEST, alias="latest"
        )
        yield inf.GenerateResponse(start=start)
        sampling = request.sampling
        num_completions = max(1, sampling.n)
        if sampling.HasField("prompt_logprobs"):
            chunk = inf.GenerateChunk(prompt_logprobs=[_logprobs(7, sampling.prompt_logprobs)])
            yield inf.GenerateResponse(chunk=chunk)
        for position, word in enumerate(self.words):
            for index in range(num_completions):
                chunk = inf.GenerateChunk(text=word + "'" * index, token_ids=[position])
                chunk.index = index
                if sampling.HasField("logprobs"):
                    chunk.logprobs.append(_logprobs(position, sampling.logprobs))
                yield inf.GenerateResponse(chunk=chunk)
        if self.tool_calls or self.tool_call_error:
            chunk = inf.GenerateChunk(tool_calls=self.tool_calls)
            chunk.tool_call_error = self.tool_call_error
            yield inf.GenerateResponse(chunk=chunk)
        if self.error:
            _abort(context, self.error)
        if self.endless:
            self.cancelled.wait(20)
        if not self.truncated:
            usage = inf.Usage(prompt_tokens=4, completion_tokens=3, cached_tokens=2)
            results = [
                inf.CompletionResult(
                    index=index,
                    finish_reason=inf.FINISH_REASON_LENGTH,
                    tool_calls=self.tool_calls,
                )
                for index in range(num_completions)
            ]
            complete = inf.GenerateComplete(
                finish_reason=self.finish_reason,
                usage=usage,
                results=results,
                tool_calls=self.tool_calls,
            )
            yield inf.GenerateResponse(complete=complete)


class FakeRuntime(inference_pb2_grpc.AdapterRuntimeServicer):
    """`asked`: with which credential, and for which tenant, requests were last listed."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def PrefetchAdapters(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        for name in request.adapters:
            for done in (0, 500, 1000):
                yield inf.PrefetchProgress(
                    adapter=name,
                    bytes_done=done,
                    bytes_total=1000,
                    tier=request.tier,
                    done=done == 1000,
                )

    def ListLoadedAdapters(self, request: Any, context: Any) -> Any:  # noqa: N802
        adapter = inf.LoadedAdapter(
            adapter_version=VERSION, tier=inf.TIER_DEVICE, pages=2, rank=8, device_bytes=2048
        )
        return inf.ListLoadedAdaptersResponse(adapters=[adapter])

    def ListRequests(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.asked = [dict(context.invocation_metadata())["authorization"], request.tenant]
        running = inf.RequestInfo(
            request_id="r-1",
            tenant="acme",
            principal="tenants/acme/principals/app",
            adapter_version=VERSION,
            state=inf.REQUEST_STATE_RUNNING,
            prompt_tokens=12,
            completion_tokens=34,
        )
        running.age.FromMilliseconds(2500)
        running.time_to_first_token.FromMilliseconds(500)
        waiting = inf.RequestInfo(request_id="r-2", tenant="acme", state=inf.REQUEST_STATE_WAITING)
        waiting.age.FromMilliseconds(250)
        return inf.ListRequestsResponse(requests=[running, waiting])

    def UnloadAdapter(self, request: Any, context: Any) -> Any:  # noqa: N802
        return inf.UnloadAdapterResponse(freed_pages=2, tier=inf.TIER_DISK)

    def PinAdapter(self, request: Any, context: Any) -> Any:  # noqa: N802
        return _residency(request, pinned=True)

    def Drain(self, request: Any, context: Any) -> Any:  # noqa: N802
        return inf.DrainResponse()

    def UnpinAdapter(self, request: Any, context: Any) -> Any:  # noqa: N802
        return _residency(request, pinned=False)


def _residency(request: Any, pinned: bool) -> inf.LoadedAdapter:
    version = f"{request.tenant}/adapters/{request.adapter}/versions/1"
    return inf.LoadedAdapter(adapter_version=version, tier=inf.TIER_DEVICE, pinned=pinned)


class FakeArtifacts(registry_pb2_grpc.ArtifactServiceServicer):
    """Keeps bytes; becomes UNAVAILABLE after `fail_after` chunks, `failures` times."""

    def __init__(self) -> None:
        self.declared: dict[str, reg.ArtifactFile] = {}
        self.stored: dict[str, bytearray] = {}
        self.chunk_sizes: list[int] = []
        self.write_calls = 0
        self.failures = 0
        self.fail_after = 3
        self.refusal: LorikeetError | None = None
        self.aborted = False

    def StartUpload(self, request: Any, context: Any) -> reg.Upload:  # noqa: N802
        self.declared = {file.file_name: file for file in request.files}
        self.stored = {name: bytearray() for name in self.declared}
        return self._upload()

    def WriteArtifact(self, requests: Any, context: Any) -> reg.Upload:  # noqa: N802
        self.write_calls += 1
        for position, request in enumerate(requests):
            if self.failures and position == self.fail_after:
                self.failures -= 1
                _abort(context, UnavailableError("going away"))
            stored = self.stored[request.file_name]
            assert bool(request.upload) == (position == 0)
            assert request.offset == len(stored)
            assert request.crc32 == zlib.crc32(request.data)
            stored += request.data
            self.chunk_sizes.append(len(request.data))
        return self._upload()

    def GetUpload(self, request: Any, context: Any) -> reg.Upload:  # noqa: N802
        return self._upload()

    def CommitUpload(self, request: Any, context: Any) -> reg.AdapterVersion:  # noqa: N802
        if self.refusal:
            _abort(context, self.refusal)
        return reg.AdapterVersion(name=VERSION, version=3, digest=DIGEST, rank=8, size_bytes=2**33)

    def AbortUpload(self, request: Any, context: Any) -> Any:  # noqa: N802
        from google.protobuf.empty_pb2 import Empty

        self.aborted = True
        return Empty()

    def _upload(self) -> reg.Upload:
        files = [
            reg.UploadedFile(file=self.declared[name], committed_bytes=len(stored))
            for name, stored in self.stored.items()
        ]
        return reg.Upload(name="uploads/u1", files=files)


class FakeRegistry(registry_pb2_grpc.AdapterRegistryServicer):
    """One adapter with one allow-list; `before_set` runs just before a policy is replaced."""

    def __init__(self) -> None:
        self.allowed = ["tenants/globex"]
        self.etag = "1"
        self.before_set: Callable[[], None] = lambda: None
        self.page_tokens: list[str] = []
        self.refusal: LorikeetError | None = None

    def ListAdapters(self, request: Any, context: Any) -> reg.ListAdaptersResponse:  # noqa: N802
        if self.refusal:
            _abort(context, self.refusal)
        self.page_tokens.append(request.page_token)
        name = f"tenants/acme/adapters/a{len(self.page_tokens)}"
        adapter = reg.Adapter(name=name, base_model="baseModels/demo", latest_version=2)
        next_token = "" if request.page_token == "p2" else f"p{len(self.page_tokens)}"
        return reg.ListAdaptersResponse(adapters=[adapter], next_page_token=next_token)

    def ListBaseModels(self, request: Any, context: Any) -> Any:  # noqa: N802
        return reg.ListBaseModelsResponse(base_models=[reg.BaseModel(name="baseModels/demo")])

    def CreateAdapter(self, request: Any, context: Any) -> reg.Adapter:  # noqa: N802
        return reg.Adapter(name=f"{request.parent}/adapters/{request.adapter_id}")

    def GetAccessPolicy(self, request: Any, context: Any) -> reg.AccessPolicy:  # noqa: N802
        return reg.AccessPolicy(
            adapter=request.adapter, allowed_tenants=self.allowed, etag=self.etag
        )

    def SetAccessPolicy(self, request: Any, context: Any) -> reg.AccessPolicy:  # noqa: N802
        self.before_set()
        if request.policy.etag != self.etag:
            context.abort(grpc.StatusCode.ABORTED, "the etag is stale")
        self.allowed = list(request.policy.allowed_tenants)
        return self.GetAccessPolicy(request.policy, context)


class FakeAccess(registry_pb2_grpc.AccessServiceServicer):
    def __init__(self) -> None:
        self.create_calls = 0

    def CreateTenant(self, request: Any, context: Any) -> reg.Tenant:  # noqa: N802
        self.create_calls += 1
        if request.tenant_id == "busy":
            _abort(context, UnavailableError("starting"))
        return reg.Tenant(name=f"tenants/{request.tenant_id}")

    def IdentifyCaller(self, request: Any, context: Any) -> reg.Identity:  # noqa: N802
        return reg.Identity(tenant="tenants/acme")


class FakeServer:
    """Every service on one port."""

    def __init__(self) -> None:
        self.inference = FakeInference()
        self.runtime = FakeRuntime()
        self.artifacts = FakeArtifacts()
        self.registry = FakeRegistry()
        self.access = FakeAccess()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        self._add(inference_pb2_grpc, "Inference", self.inference)
        self._add(inference_pb2_grpc, "AdapterRuntime", self.runtime)
        self._add(registry_pb2_grpc, "ArtifactService", self.artifacts)
        self._add(registry_pb2_grpc, "AdapterRegistry", self.registry)
        self._add(registry_pb2_grpc, "AccessService", self.access)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _add(self, generated: Any, service: str, servicer: object) -> None:
        getattr(generated, f"add_{service}Servicer_to_server")(servicer, self._server)

    def stop(self) -> None:
        self.inference.cancelled.set()
        self._server.stop(0).wait()


def _logprobs(token_id: int, num_top: int) -> inf.TokenLogprobs:
    """The token's own chance is 1 in 4, that of each of the likeliest 1 in 2."""
    return inf.TokenLogprobs(
        token_id=token_id,
        logprob=math.log(0.25),
        rank=2,
        token_ids=range(90, 90 + num_top),
        logprobs=[math.log(0.5)] * num_top,
    )


def _abort(context: Any, error: LorikeetError) -> None:
    context.abort_with_status(error.to_status())
