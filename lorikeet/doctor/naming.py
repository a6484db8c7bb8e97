"""The name a client uses for an adapter: which part of it fails?"""

from lorikeet.doctor.services import Target
from lorikeet.rpc.adapter_naming import AdapterReference, parse_adapter_reference
from lorikeet.rpc.checklist import CheckFailed, Checklist, CheckSkipped
from lorikeet.rpc.errors import (
    FailedPreconditionError,
    LorikeetError,
    NotFoundError,
    PermissionDeniedError,
)
from lorikeet.rpc.names import AdapterName
from protos import registry_pb2


def check_adapter(checklist: Checklist, name: str, registry: Target, inference: Target) -> None:
    """Adds `adapter.*`: [base:][tenant/]adapter[@alias-or-version], part by part."""
    if not name:
        checklist.run("adapter.syntax", "client", _no_name)
        return
    parts = _Parts(name, registry, inference)
    checklist.run("adapter.syntax", "client", parts.syntax, ["registry.credential"])
    checklist.run("adapter.base_model", "client", parts.base_model, ["adapter.syntax"])
    checklist.run("adapter.use", "client", parts.use, ["adapter.syntax"])
    checklist.run("adapter.version", "client", parts.version, ["adapter.use"])


def _no_name() -> str:
    raise CheckSkipped("no adapter: give --adapter NAME")


class _Parts:
    def __init__(self, name: str, registry: Target, inference: Target) -> None:
        self._name = name
        self._registry = registry
        self._inference = inference
        self._base, colon, _ = name.partition(":")
        self._base = self._base if colon else ""

    def syntax(self) -> str:
        reference = self._reference()
        return f"means {reference.resource_name}, for tenant {self._tenant()}"

    def base_model(self) -> str:
        if not self._base:
            raise CheckSkipped("the name asserts no base model")
        if not self._inference.address:
            raise CheckSkipped("give --inference to compare with the model it serves")
        with self._inference.client() as client:
            served = client.server_info().base_model.removeprefix("baseModels/")
        if served != self._base:
            raise CheckFailed(
                f"the name says base model {self._base!r}, the server runs {served!r}",
                "correct the part before ':', or ask the server of that model",
            )
        return f"the server runs {served}"

    def use(self) -> str:
        reference = self._reference()
        name = str(AdapterName(reference.tenant, reference.adapter))
        try:
            self._resolve(name)
        except (NotFoundError, FailedPreconditionError):
            return f"{name} is there"  # which version is the next check's question
        except PermissionDeniedError as error:
            raise CheckFailed(
                f"{name} does not exist, or tenant {self._tenant()} is not on its allow-list",
                "compare with `lorikeet adapters list`; its owner can `lorikeet adapters grant`",
            ) from error
        except LorikeetError as error:
            raise CheckFailed(f"{error.code.name}: {error.message}", "see the message") from error
        return f"{name} may be used by tenant {self._tenant()}"

    def version(self) -> str:
        reference = self._reference()
        selector = reference.version or reference.alias or "latest"
        try:
            resolved = self._resolve(reference.resource_name)
        except LorikeetError as error:
            raise CheckFailed(
                f"@{selector} does not resolve: {error.message}",
                "`lorikeet adapters show` lists its versions and aliases",
            ) from error
        return f"@{selector} is version {resolved.version.version}, {resolved.version.digest[:19]}…"

    def _resolve(self, name: str) -> registry_pb2.ResolveAdapterResponse:
        with self._registry.admin() as admin:
            return admin.resolve_adapter(name, tenant=self._tenant())

    def _tenant(self) -> str:
        if self._registry.tenant:
            return self._registry.tenant
        with self._registry.admin() as admin:
            return admin.identify_caller().tenant.removeprefix("tenants/")

    def _reference(self) -> AdapterReference:
        try:
            # Which base the server runs is the next check's question.
            return parse_adapter_reference(
                self._name, own_tenant=self._tenant(), base_model=self._base
            )
        except LorikeetError as error:
            raise CheckFailed(
                error.message, "write [base:][tenant/]adapter[@alias-or-version]"
            ) from error
