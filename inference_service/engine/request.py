"""The messages between the front end and the engine: frozen, small enough to send every step."""

import msgspec

from inference_service.engine.self_report import AdapterResidency, EngineInfo, EngineStats


class SamplingOptions(msgspec.Struct, frozen=True):
    """Checked sampling settings: defaults are applied and ranges hold.

    temperature 0 is greedy; top_k 0 means every token; `stop_token_ids` includes the end-of-text
    tokens unless the caller asked to ignore them. `logprobs` and `prompt_logprobs`: None for none,
    else how many of the likeliest tokens to tell besides the token itself.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    max_tokens: int = 16
    min_tokens: int = 0
    stop_token_ids: tuple[int, ...] = ()
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    logprobs: int | None = None
    prompt_logprobs: int | None = None


class Submit(msgspec.Struct, frozen=True, tag="submit"):
    """Queue a request. `adapter_digest` is empty for the base model, else one `Load` made known.

    `weight` is the tenant's share of a busy engine, relative to other tenants. `priority` orders
    the requests of one tenant, lowest first, as in vLLM; it gives no advantage over other tenants.
    """

    request_id: int
    prompt_token_ids: list[int]
    sampling: SamplingOptions
    adapter_digest: str = ""
    tenant: str = ""
    weight: float = 1.0
    priority: int = 0

    @property
    def max_num_tokens(self) -> int:
        """What it can grow to. The last token is never computed, so its KV needs no room."""
        return len(self.prompt_token_ids) + self.sampling.max_tokens - 1


class Abort(msgspec.Struct, frozen=True, tag="abort"):
    """Forget a request and free its pages; nothing more is sent for it."""

    request_id: int


class DeclaredFile(msgspec.Struct, frozen=True, array_like=True):
    """What the registry says of one file of an adapter; `sha256` is hex."""

    size_bytes: int
    sha256: str


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Make an adapter directory (PEFT layout) known and resident.

    `files`: by name. Whenever the engine reads the directory, what it reads must be these bytes;
    it is refused with ARTIFACT_CORRUPT otherwise. Empty: nobody declared anything.
    """

    call_id: int
    digest: str
    path: str
    files: dict[str, DeclaredFile] = {}


class Unload(msgspec.Struct, frozen=True, tag="unload"):
    """Free an adapter's pages. Refused while requests use it."""

    call_id: int
    digest: str


class Pin(msgspec.Struct, frozen=True, tag="pin"):
    """Make a known adapter resident, as `Load` does, and keep it so until unpinned."""

    call_id: int
    digest: str


class Unpin(msgspec.Struct, frozen=True, tag="unpin"):
    """Let a pinned adapter be evicted again; one that is not pinned is no error."""

    call_id: int
    digest: str


class DropPrefixes(msgspec.Struct, frozen=True, tag="drop_prefixes"):
    """Forget cached KV, so that no later request finds it.

    Of one tenant and of one adapter, or of every one where that is None; the digest "" is the base
    model alone. Blocks that running requests use are freed when these let go of them.
    """

    call_id: int
    tenant: str | None
    adapter_digest: str | None


class GetStats(msgspec.Struct, frozen=True, tag="get_stats"):
    call_id: int


class Shutdown(msgspec.Struct, frozen=True, tag="shutdown"):
    pass


Command = Submit | Abort | Load | Unload | Pin | Unpin | DropPrefixes | GetStats | Shutdown


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How likely a token was by the model itself, before sampling settings are applied.

    `rank` 1: no token was likelier. `top_ids`: the likeliest tokens, as many as were asked for,
    likeliest first, with their logprobs.
    """

    token_id: int
    logprob: float
    rank: int
    top_ids: list[int]
    top_logprobs: list[float]


class TokenOutput(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Tokens of one request from one step; `logprobs` has one for each if they were asked for.

    `prompt_logprobs` are of the prompt's tokens from the second on, in order, over as many outputs
    as the prompt took steps; all come before or with the first token.

    `num_cached` are the prompt tokens that the prefix cache had, `queue_seconds` the time from the
    request's arrival until it first ran; both are told with the first token.
    `finish_reason` is "", "stop" (a stop token, which is the last of `token_ids`) or "length".
    A request the engine cannot go on with ends with `refusal`, an ErrorInfo reason, and `error`.
    """

    request_id: int
    token_ids: list[int]
    finish_reason: str = ""
    refusal: str = ""
    error: str = ""
    num_cached: int = 0
    queue_seconds: float = 0.0
    logprobs: list[TokenLogprob] = []
    prompt_logprobs: list[TokenLogprob] = []

    @property
    def is_last(self) -> bool:
        return bool(self.finish_reason or self.refusal)


class StepOutput(msgspec.Struct, frozen=True, tag="step"):
    """Everything one step produced, in one message."""

    outputs: list[TokenOutput]


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    call_id: int
    adapter: AdapterResidency


class Unloaded(msgspec.Struct, frozen=True, tag="unloaded"):
    call_id: int
    freed_pages: int


class PrefixesDropped(msgspec.Struct, frozen=True, tag="prefixes_dropped"):
    call_id: int
    num_blocks: int


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """A `Load`, `Pin` or `Unload` that was not done. `reason` is an ErrorInfo reason."""

    call_id: int
    reason: str
    message: str


Reply = StepOutput | Loaded | Unloaded | PrefixesDropped | Refused | EngineStats | EngineInfo
