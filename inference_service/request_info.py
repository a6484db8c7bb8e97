"""A running request as ListRequests tells of it."""

from google.protobuf.duration_pb2 import Duration

from inference_service.request_record import RequestRecord
from protos import inference_pb2


def request_info(record: RequestRecord) -> inference_pb2.RequestInfo:
    first_token = record.seconds_to_first_token
    is_running = first_token is not None
    return inference_pb2.RequestInfo(
        request_id=record.request_id,
        tenant=record.tenant,
        principal=record.principal,
        adapter_version=record.adapter_version,
        state=(
            inference_pb2.REQUEST_STATE_RUNNING
            if is_running
            else inference_pb2.REQUEST_STATE_WAITING
        ),
        prompt_tokens=record.num_prompt_tokens,
        completion_tokens=record.num_completion_tokens,
        age=_duration(record.seconds),
        time_to_first_token=None if first_token is None else _duration(first_token),
    )


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration
