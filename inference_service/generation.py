"""The life of one request: gate, queue, prompt, adapter, engine, text."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from grpc import aio

from inference_service.adapters.store import AdapterStore
from inference_service.admission import Admission, Ticket
from inference_service.completion import Completion, CompletionPiece
from inference_service.engine.client import EngineClient
from inference_service.engine.request import TokenOutput
from inference_service.engine_errors import engine_restarting, translated_engine_errors
from inference_service.gate import Admitted, Gate
from inference_service.known_adapters import KnownAdapters
from inference_service.reader_watch import ReaderWatch
from inference_service.request_record import RequestRecord, checked_request_id, recorded
from inference_service.sampling import (
    ModelLimits,
    SamplingPlan,
    check_prompt,
    check_sampling,
    plan_sampling,
    with_profile_defaults,
)
from inference_service.tokenizer import ModelTokenizer
from lorikeet.rpc.errors import DeadlineExceededError, InternalError
from lorikeet.rpc.names import BaseModelName
from protos import inference_pb2

logger = logging.getLogger(__name__)

Encode = Callable[[Admitted], Awaitable[list[int]]]
Responses = AsyncGenerator[inference_pb2.GenerateResponse, None]

_FINISH_REASONS: Final = {
    "stop": inference_pb2.FINISH_REASON_STOP,
    "length": inference_pb2.FINISH_REASON_LENGTH,
}


@dataclass(frozen=True)
class GenerationLimits:
    """Bounds on one request."""

    max_request_seconds: float
    slow_reader_seconds: float


@dataclass(frozen=True)
class GenerationRequest:
    """What Generate and Chat have in common."""

    request_id: str
    tenant: str
    adapter: str
    sampling: inference_pb2.SamplingParams


@dataclass(frozen=True)
class _Run:
    """Everything decided before the engine is asked."""

    admitted: Admitted
    prompt_token_ids: list[int]
    plan: SamplingPlan
    record: RequestRecord
    ticket: Ticket
    watch: ReaderWatch
    deadline: float


@dataclass(frozen=True)
class Generations:
    """Runs requests; holds no state of its own."""

    base_model: str
    gate: Gate
    admission: Admission
    known_adapters: KnownAdapters
    store: AdapterStore
    engine: EngineClient
    tokenizer: ModelTokenizer
    model_limits: ModelLimits
    limits: GenerationLimits

    async def run(
        self,
        request: GenerationRequest,
        context: aio.ServicerContext[Any, Any],
        encode: Encode,
    ) -> Responses:
        """`start`, `chunk`s and one `complete`, or an error. `encode` makes the prompt."""
        request_id = checked_request_id(request.request_id)
        deadline = asyncio.get_running_loop().time() + self.limits.max_request_seconds
        watch = ReaderWatch(context, max_seconds=self.limits.slow_reader_seconds)
        with recorded(request_id) as record:
            admitted = await self._admit(request, context, record)
            with self.admission.ticket(admitted.tenant) as ticket:
                async with _until(deadline):
                    prompt, plan = await self._prepare(request, admitted, encode)
                record.num_prompt_tokens = len(prompt)
                run = _Run(admitted, prompt, plan, record, ticket, watch, deadline)
                async with aclosing(self._respond(run)) as responses:
                    async for response in responses:
                        yield response

    async def _admit(
        self,
        request: GenerationRequest,
        context: aio.ServicerContext[Any, Any],
        record: RequestRecord,
    ) -> Admitted:
        admitted = await self.gate.admit(
            context,
            tenant=request.tenant,
            adapter=request.adapter,
            request_id=record.request_id,
        )
        record.admitted(admitted)
        if admitted.adapter:
            self.known_adapters.add(admitted.adapter)
        return admitted

    async def _prepare(
        self, request: GenerationRequest, admitted: Admitted, encode: Encode
    ) -> tuple[list[int], SamplingPlan]:
        """The prompt and the sampling of a request, checked."""
        profile = admitted.profile
        params = with_profile_defaults(request.sampling, profile.default_sampling, profile.stop)
        check_sampling(params, self.model_limits)
        prompt = await encode(admitted)
        check_prompt(prompt, self.model_limits)
        return prompt, plan_sampling(params, self.model_limits, len(prompt))

    async def _respond(self, run: _Run) -> Responses:
        yield self._start_response(run)
        async with AsyncExitStack() as stack:
            async with _until(run.deadline):
                await self._load_adapter(run.admitted, stack)
            piece = CompletionPiece()
            async with aclosing(self._pieces(run)) as pieces:
                async for piece in pieces:
                    yield _chunk_response(piece)
        # The engine is rid of the request before the client hears that it has ended.
        run.record.outcome = piece.finish_reason
        yield _complete_response(run, piece)

    async def _load_adapter(self, admitted: Admitted, stack: AsyncExitStack) -> None:
        """Brings the adapter to the engine; its files stay on disk until `stack` ends."""
        if not self.engine.is_alive:
            raise engine_restarting()
        if admitted.adapter is None:
            return
        artifact = admitted.adapter.artifact
        path = await stack.enter_async_context(self.store.lease(artifact, admitted.tenant))
        with translated_engine_errors():
            await self.engine.load_adapter(artifact.digest, path)

    async def _pieces(self, run: _Run) -> AsyncGenerator[CompletionPiece, None]:
        completion = Completion(self.tokenizer, run.plan)
        outputs = self.engine.generate(
            run.prompt_token_ids, run.plan.options, run.admitted.digest, run.admitted.tenant
        )
        finish_reason = ""
        async with aclosing(outputs):
            while not finish_reason:
                piece = completion.add(await _next_output(outputs, run.deadline))
                finish_reason = piece.finish_reason
                run.ticket.started_running()
                run.record.got_token(completion.num_tokens)
                with run.watch.sending(outputs):
                    yield piece

    def _start_response(self, run: _Run) -> inference_pb2.GenerateResponse:
        return inference_pb2.GenerateResponse(
            start=inference_pb2.GenerateStart(
                request_id=run.record.request_id,
                adapter_version=run.admitted.version_name,
                digest=run.admitted.digest,
                base_model=str(BaseModelName(self.base_model)),
                num_prompt_tokens=len(run.prompt_token_ids),
            )
        )


async def _next_output(outputs: AsyncGenerator[TokenOutput, None], deadline: float) -> TokenOutput:
    with translated_engine_errors():
        async with _until(deadline):
            output = await anext(outputs, None)
    if output is None or output.error:
        logger.error("the engine gave up a request: %s", output.error if output else "no output")
        raise InternalError(
            "the engine could not go on with this request", reason="ENGINE_REQUEST_FAILED"
        )
    return output


@asynccontextmanager
async def _until(deadline: float) -> AsyncGenerator[None, None]:
    """Never around a `yield` to gRPC: there, the timeout would hit gRPC's own code."""
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError as error:
        raise DeadlineExceededError(
            "the request took longer than this server allows", reason="MAX_REQUEST_TIME"
        ) from error


def _chunk_response(piece: CompletionPiece) -> inference_pb2.GenerateResponse:
    return inference_pb2.GenerateResponse(
        chunk=inference_pb2.GenerateChunk(token_ids=piece.token_ids, text=piece.text)
    )


def _complete_response(run: _Run, piece: CompletionPiece) -> inference_pb2.GenerateResponse:
    return inference_pb2.GenerateResponse(
        complete=inference_pb2.GenerateComplete(
            finish_reason=_FINISH_REASONS[piece.finish_reason],
            usage=inference_pb2.Usage(
                prompt_tokens=len(run.prompt_token_ids),
                completion_tokens=run.record.num_completion_tokens,
            ),
            stop_string=piece.stop_string,
        )
    )
