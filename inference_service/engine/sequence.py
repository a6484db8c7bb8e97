"""A request inside the engine, from admission to its last token."""

import time
from dataclasses import dataclass, field

from inference_service.engine.logit_edits import LogitEdits
from inference_service.engine.request import SamplingOptions, Submit


@dataclass(eq=False)  # a sequence is itself, whatever its tokens
class Sequence:
    """Prompt and output tokens, and how many of them have their KV in the arena.

    Owned by the scheduler. `num_pending` (0 or 1) tokens follow `token_ids`: sampled on the device,
    where the next step can read them, and not known here yet; they count as tokens of the output.
    A sequence that waits has none.

    After a preemption `num_computed` is 0 again and the output tokens are recomputed as if they
    were prompt; `num_charged`, how many its tenant was charged for, stays, and so does
    `num_prompt_logprobs`, how many prompt tokens' logprobs were sent.
    `num_overtaken`: admissions that passed it while its adapter lacked pages. `num_cached`: prompt
    tokens whose KV was there when it first started, `queue_seconds` after it was submitted.
    `block_keys`: see PrefixKeys.
    """

    request_id: int
    token_ids: list[int]
    num_prompt: int
    sampling: SamplingOptions
    adapter_digest: str
    tenant: str
    weight: float = 1.0
    priority: int = 0
    num_pending: int = 0
    num_computed: int = 0
    num_charged: int = 0
    num_overtaken: int = 0
    num_cached: int = 0
    num_prompt_logprobs: int = 0
    submitted: float = field(default_factory=time.perf_counter)
    queue_seconds: float = 0.0
    stop_token_ids: frozenset[int] = field(default_factory=frozenset)
    block_keys: list[bytes] = field(default_factory=list)
    edits: LogitEdits | None = None

    @classmethod
    def from_submit(cls, submit: Submit) -> "Sequence":
        return cls(
            request_id=submit.request_id,
            token_ids=list(submit.prompt_token_ids),
            num_prompt=len(submit.prompt_token_ids),
            sampling=submit.sampling,
            adapter_digest=submit.adapter_digest,
            tenant=submit.tenant,
            weight=submit.weight,
            priority=submit.priority,
            stop_token_ids=frozenset(submit.sampling.stop_token_ids),
            edits=LogitEdits.make(submit.prompt_token_ids, submit.sampling),
        )

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids) + self.num_pending

    @property
    def num_output(self) -> int:
        return self.num_tokens - self.num_prompt

    @property
    def num_uncomputed(self) -> int:
        return self.num_tokens - self.num_computed

    @property
    def awaits_its_last(self) -> bool:
        """Whether the token on its way is certainly the last; whether it is a stop token, it tells
        when it is there."""
        return self.num_pending > 0 and self.num_output >= self.sampling.max_tokens

    @property
    def needs_prompt_logits(self) -> bool:
        """Whether every prompt token is to be run, cached or not, for its logits."""
        return self.sampling.prompt_logprobs is not None

    def start(self, num_cached: int) -> None:
        """It runs from now on, with the KV of its first `num_cached` tokens already there."""
        if self.num_charged == 0:
            self.num_cached = num_cached
            self.queue_seconds = time.perf_counter() - self.submitted
        self.num_computed = num_cached
        self.num_overtaken = 0

    @property
    def max_num_tokens(self) -> int:
        """What it can grow to. The last token is never computed, so its KV needs no room."""
        return self.num_prompt + self.sampling.max_tokens - 1

    def append(self, token_id: int) -> str:
        """Adds a sampled token, which was pending; returns the finish reason, or "" to go on."""
        self.num_pending = 0
        self.token_ids.append(token_id)
        if self.edits is not None:
            self.edits.add(token_id)
        if token_id in self.stop_token_ids and self.num_output > self.sampling.min_tokens:
            return "stop"
        return "length" if self.num_output >= self.sampling.max_tokens else ""
