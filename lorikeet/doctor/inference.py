"""The inference service as a client sees it: its model, its memory, its adapters."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final

from lorikeet.doctor.kv_room import kv_bytes_per_token
from lorikeet.doctor.services import NO_TARGET, NOT_SERVING, Target, check_health, explained
from lorikeet.rpc.checklist import CheckFailed, Checklist, CheckSkipped, Layer
from protos import inference_pb2, registry_pb2

_MAX_SHOWN: Final = 5
_MAX_VERSIONS: Final = 200  # one call each
_LEASE_SECONDS: Final = 5.0


def check_inference(checklist: Checklist, target: Target, registry: Target = NO_TARGET) -> None:
    """Adds `inference.*`; what is compared with the registry needs `registry.credential`."""
    if not check_health(checklist, "inference", "device", target):
        return
    asked = _Asked(target, registry)

    def add(name: str, layer: Layer, check: Callable[[], str], needs: Sequence[str] = ()) -> None:
        checklist.run(f"inference.{name}", layer, check, ["inference.credential", *needs])

    # One that is not serving still tells why.
    is_there = checklist.findings[-1].detail == NOT_SERVING
    needs = [] if is_there else ["inference.health"]
    checklist.run("inference.credential", "registry", asked.credential, needs)
    add("device", "device", asked.device)
    add("admission", "device", asked.admission)
    add("lease", "registry", asked.lease)
    add("base_model", "registry", asked.base_model, ["registry.credential"])
    add("room", "device", asked.room, ["inference.device", "registry.credential"])
    add("rank", "registry", asked.rank, ["registry.credential"])
    add("warm", "device", asked.warm)
    add("adapters", "device", asked.adapters)


class _Asked:
    """What both services said; each is asked once."""

    def __init__(self, target: Target, registry: Target) -> None:
        self._target = target
        self._registry = registry

    @functools.cached_property
    def _info(self) -> inference_pb2.ServerInfo:
        with explained(), self._target.client() as client:
            return client.server_info()

    @functools.cached_property
    def _registered(self) -> registry_pb2.BaseModel:
        with explained(), self._registry.admin() as admin:
            return admin.get_base_model(self._info.base_model)

    def credential(self) -> str:
        if not self._target.has_identity:
            raise CheckSkipped("no API key: give --api-key or LORIKEET_API_KEY")
        return f"accepted, by version {self._info.version}"

    def device(self) -> str:
        info, memory = self._info, self._info.memory
        if memory.total_pages <= 0:
            raise CheckFailed("there is no memory for KV and adapters", "raise its --memory")
        size = memory.total_pages * memory.page_bytes / 2**30
        return (
            f"{info.base_model} on {info.device} in {info.dtype}, {size:.2f} GiB for KV and "
            f"adapters, ranks up to {info.max_lora_rank}"
        )

    def admission(self) -> str:
        info = self._info
        if info.draining:
            raise CheckFailed(
                "it is draining: every request is refused with SHUTTING_DOWN",
                "start it again when what it was drained for is done",
            )
        return f"{info.num_running} requests run, {info.num_waiting} wait"

    def lease(self) -> str:
        if not self._info.HasField("registry_lease"):
            raise CheckSkipped("this server does not tell")
        left = self._info.registry_lease.ToNanoseconds() / 1e9
        if left < _LEASE_SECONDS:
            raise CheckFailed(
                f"in {left:.0f} s it refuses every request: it hears nothing of the registry",
                "look at its log, and at the network between it and its --registry",
            )
        return f"requests would be admitted for {left:.0f} s without the registry"

    def base_model(self) -> str:
        info, registered = self._info, self._registered
        if info.config_digest != registered.config_digest:
            raise CheckFailed(
                f"it serves config digest {info.config_digest}, registered is "
                f"{registered.config_digest}",
                "these are different models or revisions: adapters of one answer badly on the "
                "other; start it with the registered checkpoint",
            )
        return f"is {registered.name} at {registered.revision}, as registered"

    def room(self) -> str:
        info = self._info
        per_token = kv_bytes_per_token(self._registered.config_json, info.dtype)
        if per_token is None:
            raise CheckSkipped("the model's config does not say how large its KV is")
        needed = -(-info.max_model_len // max(1, info.memory.page_bytes // per_token))
        if needed > info.memory.total_pages:
            raise CheckFailed(
                f"a request of {info.max_model_len} tokens needs {needed} pages, there are "
                f"{info.memory.total_pages}",
                "raise its --memory, or lower its --max-model-len",
            )
        times = info.memory.total_pages / needed
        return f"room for {times:.1f} requests of {info.max_model_len} tokens, without adapters"

    def rank(self) -> str:
        largest = self._info.max_lora_rank
        with explained(), self._registry.admin() as admin:
            tenant = self._registry.tenant or admin.identify_caller().tenant
            base = f'base_model = "{self._info.base_model}"'
            listed = [a for a in admin.list_adapters(tenant, filter=base) if a.latest_version]
            versions = [
                admin.get_version(f"{adapter.name}/versions/{adapter.latest_version}")
                for adapter in listed[:_MAX_VERSIONS]
            ]
        refused = [f"{each.name} ({each.rank})" for each in versions if each.rank > largest]
        if refused:
            raise CheckFailed(
                f"ranks above its {largest}: {_some(refused)}", "raise its --max-lora-rank"
            )
        owner, num = tenant.removeprefix("tenants/"), len(versions)
        return f"{num} of {len(listed)} adapters of {owner} looked at: no rank above {largest}"

    def warm(self) -> str:
        wanted, ready = self._info.num_warm_adapters, self._info.num_warm_adapters_ready
        if ready < wanted:
            raise CheckFailed(
                f"{ready} of {wanted} adapters that are to be kept warm are loaded",
                "inference.adapters says which failed and why; the others are on their way",
            )
        return f"{wanted} warm adapters, all loaded" if wanted else "no adapter is to be kept warm"

    def adapters(self) -> str:
        with explained(), self._target.client() as client:
            held = client.loaded()
        failed = [
            f"{adapter.adapter_version}: {adapter.failure.reason}, {adapter.failure.message}"
            for adapter in held
            if adapter.HasField("failure")
        ]
        if failed:
            raise CheckFailed(
                f"cannot be loaded: {_some(failed)}",
                "the reason says what is wrong; it is tried again by itself",
            )
        return f"holds {len(held)}, none has failed"


def _some(items: Sequence[Any]) -> str:
    rest = len(items) - _MAX_SHOWN
    return "; ".join(items[:_MAX_SHOWN]) + (f"; and {rest} more" if rest > 0 else "")
