"""The inference service's unary calls: tokens, memory, and which adapters are loaded."""

from collections.abc import Iterable
from typing import Literal

from lorikeet.operations.call import Operation, StreamCall, unary
from protos import inference_pb2 as pb

_INFERENCE = "lorikeet.inference.v1.Inference"
_RUNTIME = "lorikeet.inference.v1.AdapterRuntime"


PrefetchTier = Literal["disk", "device"]


def tokenize(
    text: str, adapter: str = "", *, add_special_tokens: bool = False, tenant: str = ""
) -> Operation[list[int]]:
    """The token ids of a text, as the base model's or the adapter's tokenizer cuts it."""
    request = pb.TokenizeRequest(
        adapter=adapter, text=text, add_special_tokens=add_special_tokens, tenant=tenant
    )
    response = yield from unary(f"{_INFERENCE}/Tokenize", request, pb.TokenizeResponse)
    return list(response.token_ids)


def detokenize(token_ids: Iterable[int], adapter: str = "", *, tenant: str = "") -> Operation[str]:
    """The text of token ids."""
    request = pb.DetokenizeRequest(adapter=adapter, token_ids=token_ids, tenant=tenant)
    response = yield from unary(f"{_INFERENCE}/Detokenize", request, pb.DetokenizeResponse)
    return response.text


def token_texts(
    token_ids: Iterable[int], adapter: str = "", *, tenant: str = ""
) -> Operation[list[str]]:
    """The text of each token by itself; half a character is a replacement character."""
    request = pb.DetokenizeRequest(adapter=adapter, token_ids=token_ids, tenant=tenant, each=True)
    response = yield from unary(f"{_INFERENCE}/Detokenize", request, pb.DetokenizeResponse)
    return list(response.texts)


def server_info() -> Operation[pb.ServerInfo]:
    """The base model served, limits, and memory by use."""
    return unary(f"{_INFERENCE}/GetServerInfo", pb.GetServerInfoRequest(), pb.ServerInfo)


def unload(
    adapter: str, *, drain: bool = False, delete_from_disk: bool = False, tenant: str = ""
) -> Operation[pb.UnloadAdapterResponse]:
    """Frees an adapter's pages. While requests use it: FailedPreconditionError ADAPTER_IN_USE,
    or with `drain` it waits for them, however long they run."""
    request = pb.UnloadAdapterRequest(
        adapter=adapter, drain=drain, delete_from_disk=delete_from_disk, tenant=tenant
    )
    timeout = None if drain else 30.0
    return unary(f"{_RUNTIME}/UnloadAdapter", request, pb.UnloadAdapterResponse, timeout)


def pin(adapter: str, *, tenant: str = "") -> Operation[pb.LoadedAdapter]:
    """Loads an adapter and keeps it resident. For administrators; ResourceExhaustedError
    OUT_OF_PAGES where the largest request would no longer fit beside it."""
    request = pb.PinAdapterRequest(adapter=adapter, tenant=tenant)
    return unary(f"{_RUNTIME}/PinAdapter", request, pb.LoadedAdapter, 60.0)


def unpin(adapter: str, *, tenant: str = "") -> Operation[pb.LoadedAdapter]:
    """Lets a pinned adapter be evicted again. For administrators."""
    request = pb.UnpinAdapterRequest(adapter=adapter, tenant=tenant)
    return unary(f"{_RUNTIME}/UnpinAdapter", request, pb.LoadedAdapter)


def loaded(*, tenant: str = "") -> Operation[list[pb.LoadedAdapter]]:
    """The adapters this server holds, with their tier, bytes and running requests."""
    request = pb.ListLoadedAdaptersRequest(tenant=tenant)
    response = yield from unary(
        f"{_RUNTIME}/ListLoadedAdapters", request, pb.ListLoadedAdaptersResponse
    )
    return list(response.adapters)


def requests(*, tenant: str = "") -> Operation[list[pb.RequestInfo]]:
    """The requests that wait or run now, oldest first: a tenant's, or all for administrators."""
    request = pb.ListRequestsRequest(tenant=tenant)
    response = yield from unary(f"{_RUNTIME}/ListRequests", request, pb.ListRequestsResponse)
    return list(response.requests)


def drain() -> Operation[pb.DrainResponse]:
    """Has the server admit nothing more, for good; returns when what runs has ended. For
    administrators. Whoever stops waiting changes nothing."""
    return unary(f"{_RUNTIME}/Drain", pb.DrainRequest(), pb.DrainResponse, None)


def prefetch_call(
    adapters: Iterable[str], tier: PrefetchTier, tenant: str
) -> StreamCall[pb.PrefetchProgress]:
    """Brings adapters to a tier, with progress."""
    tiers = {"disk": pb.TIER_DISK, "device": pb.TIER_DEVICE}
    request = pb.PrefetchAdaptersRequest(adapters=adapters, tier=tiers[tier], tenant=tenant)
    return StreamCall(f"/{_RUNTIME}/PrefetchAdapters", request, pb.PrefetchProgress)
