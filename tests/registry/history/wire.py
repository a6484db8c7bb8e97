"""The model's actions as calls over gRPC, and the registry's answers as the model's."""

import re
from dataclasses import dataclass, field
from typing import Any

from protos import registry_pb2 as pb
from tests.registry.history.model import (
    Action,
    DeleteAdapter,
    DeleteAlias,
    DeleteVersion,
    GetAdapter,
    GetPolicy,
    Resolve,
    SetAlias,
    SetPolicy,
    UndeleteAdapter,
    UndeleteVersion,
)
from tests.registry.history.state import (
    LATEST,
    AdapterView,
    Answer,
    Nothing,
    Numbered,
    PolicyView,
)


@dataclass
class Target:
    """An adapter under test, and what answers have told of it so far."""

    name: str
    adapter_etags: dict[int, str] = field(default_factory=dict)
    policy_etags: dict[int, str] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)
    changed_digests: list[str] = field(default_factory=list)

    def learn_digest(self, version: int, digest: str) -> None:
        """A number, once given to a digest, never names another."""
        known = self.digests.setdefault(version, digest)
        if known != digest:
            self.changed_digests.append(f"{self.name} version {version}: {known}, then {digest}")


def method_of(action: Action) -> str:
    return _METHODS[type(action)]


def request_of(action: Action, target: Target) -> Any:
    """The request of any action but an upload."""
    name = target.name
    match action:
        case GetAdapter():
            return pb.GetAdapterRequest(name=name)
        case DeleteAdapter(etag):
            return pb.DeleteAdapterRequest(name=name, etag=_sent(target.adapter_etags, etag))
        case UndeleteAdapter(etag):
            return pb.UndeleteAdapterRequest(name=name, etag=_sent(target.adapter_etags, etag))
        case DeleteVersion(version):
            return pb.DeleteAdapterVersionRequest(name=f"{name}/versions/{version}")
        case UndeleteVersion(version):
            return pb.UndeleteAdapterVersionRequest(name=f"{name}/versions/{version}")
        case SetAlias(alias, version, etag):
            return pb.SetAliasRequest(
                name=f"{name}/aliases/{alias}",
                version=version,
                adapter_etag=_sent(target.adapter_etags, etag),
            )
        case DeleteAlias(alias, etag):
            return pb.DeleteAliasRequest(
                name=f"{name}/aliases/{alias}", adapter_etag=_sent(target.adapter_etags, etag)
            )
        case GetPolicy():
            return pb.GetAccessPolicyRequest(adapter=name)
        case SetPolicy(allowed, etag):
            tenants = [f"tenants/{tenant}" for tenant in sorted(allowed)]
            policy = pb.AccessPolicy(
                adapter=name, allowed_tenants=tenants, etag=_sent(target.policy_etags, etag)
            )
            return pb.SetAccessPolicyRequest(policy=policy)
        case Resolve(tenant, selector):
            return pb.ResolveAdapterRequest(
                tenant=f"tenants/{tenant}", name=f"{name}{_suffix(selector)}"
            )
    raise AssertionError(f"{action} is not one call")


def answer_of(response: Any, target: Target) -> Answer:
    """What a successful call said, as the model says it."""
    match response:
        case pb.Adapter():
            generation = _learned(target.adapter_etags, response.etag)
            aliases = {(_last(alias.name), alias.version) for alias in response.aliases}
            assert response.latest_version == dict(aliases).get(LATEST, 0)
            return AdapterView(response.HasField("delete_time"), generation, frozenset(aliases))
        case pb.AccessPolicy():
            generation = _learned(target.policy_etags, response.etag)
            return PolicyView(frozenset(map(_last, response.allowed_tenants)), generation)
        case pb.AdapterVersion():
            target.learn_digest(response.version, response.digest)
            return Numbered(response.version)
        case pb.ResolveAdapterResponse():
            return answer_of(response.version, target)
        case pb.Alias():
            return Numbered(response.version)
    return Nothing()


def _learned(etags: dict[int, str], etag: str) -> int:
    """How many changes made this etag. Only tests may look into one: to clients it is opaque."""
    generation = int(re.sub(r"\D", "", etag))
    assert etags.setdefault(generation, etag) == etag, f"two etags of change {generation}"
    return generation


def _sent(etags: dict[int, str], generation: int | None) -> str:
    return "" if generation is None else etags[generation]


def _suffix(selector: str | int) -> str:
    if isinstance(selector, int):
        return f"/versions/{selector}"
    return "" if selector == LATEST else f"/aliases/{selector}"


def _last(name: str) -> str:
    return name.rpartition("/")[2]


_METHODS = {
    DeleteAdapter: "DeleteAdapter",
    DeleteAlias: "DeleteAlias",
    DeleteVersion: "DeleteAdapterVersion",
    GetAdapter: "GetAdapter",
    GetPolicy: "GetAccessPolicy",
    Resolve: "ResolveAdapter",
    SetAlias: "SetAlias",
    SetPolicy: "SetAccessPolicy",
    UndeleteAdapter: "UndeleteAdapter",
    UndeleteVersion: "UndeleteAdapterVersion",
}
