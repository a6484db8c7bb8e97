"""The life of one request: gate, queue, prompt, adapter, engine, text."""

import logging
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any

from grpc import aio

from inference_service.access.revocations import Revocations
from inference_service.adapter_loads import AdapterLoads
from inference_service.admission import Admission, Ticket
from inference_service.completion import Completion
from inference_service.deadline import Deadline
from inference_service.deadline_timer import DeadlineTimer
from inference_service.engine.client import EngineClient, EngineDiedError, EngineRefusedError
from inference_service.engine.request import TokenOutput
from inference_service.engine.self_report import AdapterResidency
from inference_service.engine_errors import translated, translated_engine_errors
from inference_service.gate import Admitted, Gate
from inference_service.generation_request import Encode, GenerationLimits, GenerationRequest, Prompt
from inference_service.generation_responses import chunk_responses, complete_response
from inference_service.known_adapters import KnownAdapters
from inference_service.output_streams import OutputStream, OutputStreams
from inference_service.reader_watch import ReaderWatch
from inference_service.request_record import RequestRecord, checked_request_id
from inference_service.running_requests import RunningRequests
from inference_service.sampling import (
    SamplingPlan,
    check_priority,
    check_prompt,
    check_sampling,
    plan_sampling,
    with_profile_defaults,
)
from inference_service.sampling_ranges import ModelLimits
from inference_service.tenant_limits import TenantLimits
from inference_service.tokenizer import ModelTokenizer
from lorikeet.rpc.errors import InternalError
from lorikeet.rpc.names import BaseModelName
from protos import inference_pb2

logger = logging.getLogger(__name__)

Responses = AsyncGenerator[inference_pb2.GenerateResponse, None]


@dataclass(frozen=True)
class _Run:
    """Everything decided before the engine is asked."""

    admitted: Admitted
    prompt: Prompt
    plan: SamplingPlan
    record: RequestRecord
    ticket: Ticket
    watch: ReaderWatch
    timer: DeadlineTimer
    priority: int
    loading: Awaitable[AdapterResidency] | None
    completions: list[Completion]


@dataclass(frozen=True)
class Generations:
    """Runs requests; holds no state of its own."""

    base_model: str
    gate: Gate
    admission: Admission
    tenant_limits: TenantLimits
    known_adapters: KnownAdapters
    loads: AdapterLoads
    engine: EngineClient
    tokenizer: ModelTokenizer
    model_limits: ModelLimits
    limits: GenerationLimits
    requests: RunningRequests
    revocations: Revocations

    async def run(
        self,
        request: GenerationRequest,
        context: aio.ServicerContext[Any, Any],
        encode: Encode,
    ) -> Responses:
        """`start`, `chunk`s and one `complete`, or an error. `encode` makes the prompt."""
        request_id = checked_request_id(request.request_id)
        deadline = Deadline.of(context, self.limits.max_request_seconds)
        watch = ReaderWatch(context, max_seconds=self.limits.slow_reader_seconds)
        timer = DeadlineTimer(deadline)
        with (
            closing(timer),
            self.requests.record(request_id, deadline) as record,
            self.admission.arrival(),
        ):
            with timer:
                admitted = await self._admit(request, context, record)
            params = self._sampling_params(request, admitted)
            check_priority(request.priority)
            with timer:
                granted = await self.tenant_limits.of(admitted.tenant)
            with (
                self.revocations.running(admitted, timer.end, watch.end),
                self.admission.ticket(admitted.tenant, max(1, params.n), granted) as ticket,
            ):
                async with self.loads.begun(admitted.adapter) as loading:
                    with record.phase("prompt"), timer:
                        prompt = await encode(admitted)
                    check_prompt(prompt.token_ids, self.model_limits)
                    plan = plan_sampling(params, self.model_limits, len(prompt.token_ids))
                    ticket.use_prompt(len(prompt.token_ids))
                    record.num_prompt_tokens = len(prompt.token_ids)
                    run = _Run(
                        *(admitted, prompt, plan, record, ticket, watch, timer),
                        *(request.priority, loading, self._completions(prompt, plan)),
                    )
                    async with aclosing(self._respond(run)) as responses:
                        async for response in responses:
                            yield response
                # Engine and adapter are rid of the request before the client hears of its end.
                record.outcome = run.completions[0].finish_reason
                yield complete_response(len(prompt.token_ids), run.completions)

    async def _admit(
        self,
        request: GenerationRequest,
        context: aio.ServicerContext[Any, Any],
        record: RequestRecord,
    ) -> Admitted:
        with record.phase("admission"):
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

    def _sampling_params(
        self, request: GenerationRequest, admitted: Admitted
    ) -> inference_pb2.SamplingParams:
        """What was asked over the profile's defaults, checked."""
        profile = admitted.profile
        params = with_profile_defaults(request.sampling, profile.default_sampling, profile.stop)
        check_sampling(params, self.model_limits)
        return params

    def _completions(self, prompt: Prompt, plan: SamplingPlan) -> list[Completion]:
        count = plan.num_completions
        return [Completion(self.tokenizer, plan, prompt.tools) for _ in range(count)]

    async def _respond(self, run: _Run) -> Responses:
        """All but the last response."""
        yield self._start_response(run)
        with run.record.phase("adapter"), run.timer:
            await self._await_adapter(run)
        run.record.submitted()
        async with aclosing(self._chunks(run)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _await_adapter(self, run: _Run) -> None:
        """Its load began when the request was admitted. A copy that turns out to be damaged is
        fetched once more here: so the request joins the engine's queue after it, not before."""
        with translated_engine_errors():
            self.engine.check_alive()
        if run.loading is not None:
            residency = await run.loading
            run.record.found_on = residency.found_on

    async def _chunks(self, run: _Run) -> Responses:
        """The completions' chunks as they come. Each is a request of its own to the engine."""
        completions = run.completions
        streams = OutputStreams([self._outputs(run, i) for i in range(len(completions))])
        async with aclosing(streams):
            while streams.num_open:
                with run.timer:
                    index, output = await _next_output(streams)
                run.record.got_output(index, output)
                completion = completions[index]
                if completion.num_tokens == 0 and output.token_ids:
                    run.ticket.started_running()
                run.ticket.use_tokens(len(output.token_ids))
                piece = completion.add(output)
                if piece.finish_reason:
                    await streams.close(index)
                run.record.got_tokens(len(piece.token_ids))
                for chunk in chunk_responses(index, piece):
                    with run.watch.sending(streams):
                        yield chunk

    def _outputs(self, run: _Run, index: int) -> OutputStream:
        options, admitted = run.plan.options_of(index), run.admitted
        return self.engine.generate(
            run.prompt.token_ids,
            options,
            admitted.digest,
            admitted.tenant,
            priority=run.priority,
            weight=run.ticket.weight,
        )

    def _start_response(self, run: _Run) -> inference_pb2.GenerateResponse:
        return inference_pb2.GenerateResponse(
            start=inference_pb2.GenerateStart(
                request_id=run.record.request_id,
                adapter_version=run.admitted.version_name,
                digest=run.admitted.digest,
                base_model=str(BaseModelName(self.base_model)),
                num_prompt_tokens=len(run.prompt.token_ids),
                alias=run.admitted.alias,
            )
        )


async def _next_output(streams: OutputStreams) -> tuple[int, TokenOutput]:
    try:
        index, output = await streams.next()
    except (EngineDiedError, EngineRefusedError) as error:
        raise translated(error) from error
    if output is None or output.error:
        logger.error("the engine gave up a request: %s", output.error if output else "no output")
        raise InternalError(
            "the engine could not go on with this request", reason="ENGINE_REQUEST_FAILED"
        )
    return index, output
