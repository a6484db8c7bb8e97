"""Clients of the inference service: generate, chat, and look after the adapters it holds."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Unpack

import grpc

from lorikeet.completion import Completion
from lorikeet.connection import Connection
from lorikeet.conversation import Messages
from lorikeet.generation import Asked, AskedInChat, chat_call, generate_call
from lorikeet.operations import runtime
from lorikeet.operations.call import StreamCall
from lorikeet.rpc.errors import from_rpc_error
from lorikeet.streams import AsyncGenerationStream, GenerationStream
from lorikeet.transport import AsyncTransport, SyncTransport, async_method, sync_method
from protos import inference_pb2 as pb


class Client(SyncTransport):
    """A connection to an inference service.

    `adapter` arguments: "" is the base model; `math`, `math@stable`, `math@3` are the caller's;
    `globex/math` is another tenant's. Keywords of generations are those of `Asked`: settings of
    `Sampling`, `priority`, `timeout`, and `tenant` to act for where the key may; chats also take
    `tools` and `tool_choice`. Failures are LorikeetErrors.
    """

    def __init__(
        self,
        target: str,
        api_key: str = "",
        *,
        tenant: str = "",
        credentials: grpc.ChannelCredentials | None = None,
        insecure: bool = False,
    ) -> None:
        super().__init__(Connection(target, api_key, tenant, credentials, insecure))

    def generate(
        self,
        prompt: str | Sequence[int],
        adapter: str = "",
        **asked: Unpack[Asked],
    ) -> Completion:
        """Completes a text (or token ids)."""
        return self._stream(generate_call(prompt, adapter, asked)).result()

    def generate_stream(
        self,
        prompt: str | Sequence[int],
        adapter: str = "",
        **asked: Unpack[Asked],
    ) -> GenerationStream:
        """Completes a text (or token ids), chunk by chunk."""
        return self._stream(generate_call(prompt, adapter, asked))

    def chat(
        self,
        messages: Messages,
        adapter: str = "",
        **asked: Unpack[AskedInChat],
    ) -> Completion:
        """The assistant's next turn in a conversation."""
        return self._stream(chat_call(messages, adapter, asked)).result()

    def chat_stream(
        self,
        messages: Messages,
        adapter: str = "",
        **asked: Unpack[AskedInChat],
    ) -> GenerationStream:
        """The assistant's next turn, chunk by chunk."""
        return self._stream(chat_call(messages, adapter, asked))

    def prefetch(
        self, adapters: Iterable[str], *, tier: runtime.PrefetchTier = "device", tenant: str = ""
    ) -> Iterator[pb.PrefetchProgress]:
        """Brings adapters to a tier; yields progress, and ends when all are there."""
        call = runtime.prefetch_call(adapters, tier, tenant)
        try:
            yield from self._connection.stream(self._channel, call)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error

    tokenize = sync_method(runtime.tokenize)
    detokenize = sync_method(runtime.detokenize)
    token_texts = sync_method(runtime.token_texts)
    server_info = sync_method(runtime.server_info)
    loaded = sync_method(runtime.loaded)
    requests = sync_method(runtime.requests)
    unload = sync_method(runtime.unload)
    pin = sync_method(runtime.pin)
    unpin = sync_method(runtime.unpin)
    drain = sync_method(runtime.drain)

    def _stream(self, call: StreamCall[pb.GenerateResponse]) -> GenerationStream:
        return GenerationStream(self._connection.stream(self._channel, call))


class AsyncClient(AsyncTransport):
    """The same on asyncio; see Client. Use it from one event loop, with `async with`."""

    def __init__(
        self,
        target: str,
        api_key: str = "",
        *,
        tenant: str = "",
        credentials: grpc.ChannelCredentials | None = None,
        insecure: bool = False,
    ) -> None:
        super().__init__(Connection(target, api_key, tenant, credentials, insecure))

    async def generate(
        self,
        prompt: str | Sequence[int],
        adapter: str = "",
        **asked: Unpack[Asked],
    ) -> Completion:
        """Completes a text (or token ids)."""
        call = generate_call(prompt, adapter, asked)
        return await self._stream(call).result()

    def generate_stream(
        self,
        prompt: str | Sequence[int],
        adapter: str = "",
        **asked: Unpack[Asked],
    ) -> AsyncGenerationStream:
        """Completes a text (or token ids), chunk by chunk."""
        return self._stream(generate_call(prompt, adapter, asked))

    async def chat(
        self,
        messages: Messages,
        adapter: str = "",
        **asked: Unpack[AskedInChat],
    ) -> Completion:
        """The assistant's next turn in a conversation."""
        return await self._stream(chat_call(messages, adapter, asked)).result()

    def chat_stream(
        self,
        messages: Messages,
        adapter: str = "",
        **asked: Unpack[AskedInChat],
    ) -> AsyncGenerationStream:
        """The assistant's next turn, chunk by chunk."""
        return self._stream(chat_call(messages, adapter, asked))

    async def prefetch(
        self, adapters: Iterable[str], *, tier: runtime.PrefetchTier = "device", tenant: str = ""
    ) -> AsyncIterator[pb.PrefetchProgress]:
        """Brings adapters to a tier; yields progress, and ends when all are there."""
        call = runtime.prefetch_call(adapters, tier, tenant)
        try:
            async for progress in self._connection.stream(self._channel, call):
                yield progress
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error

    tokenize = async_method(runtime.tokenize)
    detokenize = async_method(runtime.detokenize)
    token_texts = async_method(runtime.token_texts)
    server_info = async_method(runtime.server_info)
    loaded = async_method(runtime.loaded)
    requests = async_method(runtime.requests)
    unload = async_method(runtime.unload)
    pin = async_method(runtime.pin)
    unpin = async_method(runtime.unpin)
    drain = async_method(runtime.drain)

    def _stream(self, call: StreamCall[pb.GenerateResponse]) -> AsyncGenerationStream:
        return AsyncGenerationStream(self._connection.stream(self._channel, call))
