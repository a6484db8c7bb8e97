"""What Generate and Chat ask of a generation."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from inference_service.gate import Admitted
from inference_service.tools.offered import OfferedTools
from protos import inference_pb2


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
    priority: int


@dataclass(frozen=True)
class Prompt:
    """What the model goes on from, and the tools that it may call."""

    token_ids: list[int]
    tools: OfferedTools | None = None


Encode = Callable[[Admitted], Awaitable[Prompt]]
