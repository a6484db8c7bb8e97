"""What AdapterRuntime answers, made of what the service knows."""

import time
from typing import Final

from inference_service.engine.self_report import AdapterResidency
from lorikeet.rpc.errors import LorikeetError
from protos import inference_pb2

TIERS: Final = {
    "device": inference_pb2.TIER_DEVICE,
    "host": inference_pb2.TIER_HOST,
    "disk": inference_pb2.TIER_DISK,
}


def failure_message(error: LorikeetError) -> inference_pb2.Failure:
    """`retry_time` is set where the error says when to try again."""
    failure = inference_pb2.Failure(reason=error.reason, message=error.message)
    if error.retry_after is not None:
        failure.retry_time.FromNanoseconds(time.time_ns() + int(error.retry_after * 1e9))
    return failure


def loaded_adapter(
    version_name: str,
    digest: str,
    disk_bytes: int | None,
    resident: AdapterResidency | None,
    *,
    is_pinned: bool,
    is_warm: bool,
    error: LorikeetError | None,
) -> inference_pb2.LoadedAdapter:
    """`disk_bytes` is None for what is not on disk; `error` ended the last try to load it."""
    tier = inference_pb2.TIER_REMOTE if disk_bytes is None else inference_pb2.TIER_DISK
    return inference_pb2.LoadedAdapter(
        adapter_version=version_name,
        digest=digest,
        tier=TIERS[resident.tier] if resident else tier,
        disk_bytes=disk_bytes or 0,
        device_bytes=resident.size_bytes if resident else 0,
        host_bytes=resident.host_bytes if resident else 0,
        pages=resident.pages if resident else 0,
        rank=resident.rank if resident else 0,
        pinned=is_pinned,
        warm=is_warm,
        running_requests=resident.running_requests if resident else 0,
        failure=failure_message(error) if error else None,
    )
