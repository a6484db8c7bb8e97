"""The Inference service: RPCs in, responses out; the work is done by the parts it is given."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from grpc import aio

from inference_service.admission import Admission
from inference_service.chat import ChatRenderer
from inference_service.engine.client import EngineClient
from inference_service.engine.self_report import DeviceMemory
from inference_service.engine_errors import translated_engine_errors
from inference_service.gate import Admitted, Gate
from inference_service.generation import Generations
from inference_service.generation_request import GenerationRequest, Prompt
from inference_service.sampling import check_token_ids
from inference_service.tokenizer import ModelTokenizer
from inference_service.tools.offered import offered_tools
from inference_service.warm.warm_set import WarmSet
from lorikeet.rpc.errors import FieldViolation, InvalidArgumentError
from lorikeet.rpc.names import BaseModelName
from protos import inference_pb2, inference_pb2_grpc

Context = aio.ServicerContext[Any, Any]
# Longer texts are encoded in a thread, so that the streams of others go on.
_MAX_CHARACTERS_INLINE: Final = 2000


@dataclass(frozen=True)
class ServerIdentity:
    """What GetServerInfo says besides the engine's own figures."""

    version: str
    base_model: str
    base_model_revision: str
    config_digest: str


class InferenceServicer(inference_pb2_grpc.InferenceServicer):
    """Generate, Chat, Tokenize, Detokenize, GetServerInfo."""

    def __init__(
        self,
        identity: ServerIdentity,
        generations: Generations,
        chat: ChatRenderer,
        warm_set: WarmSet,
        tool_call_parser: str = "",
    ) -> None:
        """`tool_call_parser` is the one of adapters that name none, and of the base model."""
        self._identity = identity
        self._generations = generations
        self._chat = chat
        self._warm_set = warm_set
        self._tool_call_parser = tool_call_parser
        self._gate: Gate = generations.gate
        self._engine: EngineClient = generations.engine
        self._tokenizer: ModelTokenizer = generations.tokenizer
        self._admission: Admission = generations.admission

    # Generate and Chat hand out what they are given: a generator around it would cost every token.

    def Generate(  # noqa: N802
        self, request: inference_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        async def encode(_: Admitted) -> Prompt:
            if request.WhichOneof("input") == "prompt_token_ids":
                return Prompt(list(request.prompt_token_ids.ids))
            if request.WhichOneof("input") == "prompt":
                return Prompt(await self._encode(request.prompt, add_special_tokens=True))
            raise _missing("prompt", "give a prompt or prompt_token_ids")

        return self._generations.run(_generation_request(request), context, encode)

    def Chat(  # noqa: N802
        self, request: inference_pb2.ChatRequest, context: Context
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        async def encode(admitted: Admitted) -> Prompt:
            profile = admitted.profile
            tools = offered_tools(request, profile.tool_call_parser or self._tool_call_parser)
            text = await self._chat.render(request.messages, profile.chat_template, tools)
            # The template writes the special tokens itself.
            return Prompt(await self._encode(text, add_special_tokens=False), tools)

        return self._generations.run(_generation_request(request), context, encode)

    async def Tokenize(  # noqa: N802
        self, request: inference_pb2.TokenizeRequest, context: Context
    ) -> inference_pb2.TokenizeResponse:
        async with self._call(request, context):
            token_ids = await self._encode(
                request.text, add_special_tokens=request.add_special_tokens
            )
        return inference_pb2.TokenizeResponse(token_ids=token_ids)

    async def Detokenize(  # noqa: N802
        self, request: inference_pb2.DetokenizeRequest, context: Context
    ) -> inference_pb2.DetokenizeResponse:
        async with self._call(request, context):
            check_token_ids(request.token_ids, self._engine.info.vocab_size, "token_ids")
            return await asyncio.to_thread(_detokenized, self._tokenizer, request)

    async def GetServerInfo(  # noqa: N802
        self, request: inference_pb2.GetServerInfoRequest, context: Context
    ) -> inference_pb2.ServerInfo:
        await self._gate.identify(context)
        info = self._engine.info
        with translated_engine_errors():
            stats = await self._engine.stats()
        return inference_pb2.ServerInfo(
            version=self._identity.version,
            base_model=str(BaseModelName(self._identity.base_model)),
            base_model_revision=self._identity.base_model_revision,
            config_digest=self._identity.config_digest,
            device=info.device,
            dtype=info.dtype,
            max_model_len=info.max_model_len,
            max_lora_rank=info.max_lora_rank,
            max_num_seqs=info.max_num_seqs,
            max_num_batched_tokens=info.max_num_batched_tokens,
            memory=inference_pb2.MemoryUse(
                page_bytes=stats.page_bytes,
                total_pages=stats.total_pages,
                free_pages=stats.free_pages,
                kv_pages=stats.kv_pages,
                adapter_pages=stats.adapter_pages,
                cached_pages=stats.cached_pages,
                host_bytes=stats.host_bytes,
                max_host_bytes=stats.max_host_bytes,
            ),
            num_running=stats.num_running,
            # The engine's queue, and those still on their way to it.
            num_waiting=max(stats.num_waiting, self._admission.num_waiting),
            draining=self._admission.is_closed,
            registry_lease=_duration(self._gate.lease_left),
            num_warm_adapters=self._warm_set.num_members,
            num_warm_adapters_ready=self._warm_set.num_ready,
            base_weight_bytes=info.base_weight_bytes,
            device_memory=_device_memory(stats.device_memory),
        )

    @asynccontextmanager
    async def _call(
        self,
        request: inference_pb2.TokenizeRequest | inference_pb2.DetokenizeRequest,
        context: Context,
    ) -> AsyncGenerator[None, None]:
        """Around what a call costs: it counts as a request of its tenant while it runs."""
        tenant = request.tenant
        admitted = await self._gate.admit(context, tenant=tenant, adapter=request.adapter)
        limits = await self._generations.tenant_limits.of(admitted.tenant)
        with self._admission.call(admitted.tenant, limits):
            yield

    async def _encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        if len(text) <= _MAX_CHARACTERS_INLINE:
            return self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return await asyncio.to_thread(
            self._tokenizer.encode, text, add_special_tokens=add_special_tokens
        )


def _detokenized(
    tokenizer: ModelTokenizer, request: inference_pb2.DetokenizeRequest
) -> inference_pb2.DetokenizeResponse:
    token_ids = list(request.token_ids)
    each = token_ids if request.each else []
    return inference_pb2.DetokenizeResponse(
        text=tokenizer.decode(token_ids, skip_special_tokens=False),
        texts=[tokenizer.decode([token_id], skip_special_tokens=False) for token_id in each],
    )


def _generation_request(
    request: inference_pb2.GenerateRequest | inference_pb2.ChatRequest,
) -> GenerationRequest:
    return GenerationRequest(
        request_id=request.request_id,
        tenant=request.tenant,
        adapter=request.adapter,
        sampling=request.sampling,
        priority=request.priority,
    )


def _missing(field: str, description: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        description,
        reason="INVALID_PROMPT",
        violations=[FieldViolation(field, description)],
    )


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration


def _device_memory(memory: DeviceMemory | None) -> inference_pb2.DeviceMemory | None:
    if memory is None:
        return None
    return inference_pb2.DeviceMemory(
        total_bytes=memory.total_bytes,
        available_bytes=memory.available_bytes,
        process_bytes=memory.process_bytes,
    )
