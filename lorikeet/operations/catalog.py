"""Base models and adapters."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask

from lorikeet.operations.call import Operation, pages, unary
from lorikeet.operations.naming import (
    adapter_name,
    base_model_name,
    tenant_name,
)
from lorikeet.rpc.digests import config_digest
from lorikeet.rpc.errors import AlreadyExistsError, FailedPreconditionError
from protos import registry_pb2 as pb

_SERVICE = "lorikeet.registry.v1.AdapterRegistry"


def register_base_model(
    base_model_id: str,
    model_dir: str | Path,
    *,
    source: str,
    revision: str,
    known_as: Iterable[str] = (),
    display_name: str = "",
) -> Operation[pb.BaseModel]:
    """Registers the config.json of `model_dir`; returns what is there if it is the same model.

    `source` and `known_as` are the names that PEFT may have written as base_model_name_or_path.
    FailedPreconditionError BASE_MODEL_MISMATCH when the id belongs to another config.
    """
    config_json = (Path(model_dir) / "config.json").read_text()
    base_model = pb.BaseModel(
        source=source,
        revision=revision,
        known_as=known_as,
        display_name=display_name,
        config_json=config_json,
    )
    request = pb.CreateBaseModelRequest(base_model_id=base_model_id, base_model=base_model)
    try:
        return (yield from unary(f"{_SERVICE}/CreateBaseModel", request, pb.BaseModel))
    except AlreadyExistsError as error:
        existing = yield from get_base_model(base_model_id)
        if existing.config_digest == config_digest(json.loads(config_json)):
            return existing
        raise FailedPreconditionError(
            f"base model '{base_model_id}' is registered with another config: choose another id",
            reason="BASE_MODEL_MISMATCH",
        ) from error


def get_base_model(base_model: str) -> Operation[pb.BaseModel]:
    """One base model by id."""
    request = pb.GetBaseModelRequest(name=base_model_name(base_model))
    return unary(f"{_SERVICE}/GetBaseModel", request, pb.BaseModel)


def list_base_models() -> Operation[list[pb.BaseModel]]:
    """Every base model."""
    return pages(
        f"{_SERVICE}/ListBaseModels",
        pb.ListBaseModelsRequest(),
        pb.ListBaseModelsResponse,
        "base_models",
    )


def delete_base_model(base_model: str) -> Operation[Empty]:
    """Deletes a base model; FailedPreconditionError BASE_MODEL_IN_USE while an adapter has it."""
    request = pb.DeleteBaseModelRequest(name=base_model_name(base_model))
    return unary(f"{_SERVICE}/DeleteBaseModel", request, Empty)


def create_adapter(
    adapter: str,
    base_model: str,
    *,
    display_name: str = "",
    description: str = "",
    labels: Mapping[str, str] | None = None,
    profile: pb.AdapterProfile | None = None,
    warm_aliases: Iterable[str] = (),
    request_id: str = "",
) -> Operation[pb.Adapter]:
    """An adapter (`tenant/adapter`) without versions; AlreadyExistsError when it is there."""
    tenant, _, adapter_id = adapter_name(adapter).rpartition("/adapters/")
    message = pb.Adapter(
        display_name=display_name,
        description=description,
        labels=labels,
        base_model=base_model_name(base_model),
        profile=profile,
        warm_aliases=warm_aliases,
    )
    request = pb.CreateAdapterRequest(
        parent=tenant, adapter_id=adapter_id, adapter=message, request_id=request_id
    )
    return unary(f"{_SERVICE}/CreateAdapter", request, pb.Adapter)


def get_adapter(adapter: str) -> Operation[pb.Adapter]:
    """One adapter (`tenant/adapter`)."""
    return unary(
        f"{_SERVICE}/GetAdapter", pb.GetAdapterRequest(name=adapter_name(adapter)), pb.Adapter
    )


def resolve_adapter(name: str, *, tenant: str) -> Operation[pb.ResolveAdapterResponse]:
    """The version that a full name of an adapter, alias or version means for `tenant`."""
    request = pb.ResolveAdapterRequest(tenant=tenant_name(tenant), name=name)
    return unary(f"{_SERVICE}/ResolveAdapter", request, pb.ResolveAdapterResponse)


def list_adapters(
    tenant: str, *, filter: str = "", show_deleted: bool = False
) -> Operation[list[pb.Adapter]]:
    """A tenant's adapters that this client may see, in name order.

    `filter` is a prefix of the id, or terms joined by AND: `labels.team = "x"`,
    `base_model = "baseModels/b"`, `warm = true`.
    """
    request = pb.ListAdaptersRequest(
        parent=tenant_name(tenant), filter=filter, show_deleted=show_deleted
    )
    return pages(f"{_SERVICE}/ListAdapters", request, pb.ListAdaptersResponse, "adapters")


def first_adapters(tenant: str, prefix: str, *, timeout: float) -> Operation[list[pb.Adapter]]:
    """The first page of a tenant's adapters whose ids begin so: for those who cannot wait."""
    request = pb.ListAdaptersRequest(parent=tenant_name(tenant), filter=prefix)
    response = yield from unary(
        f"{_SERVICE}/ListAdapters", request, pb.ListAdaptersResponse, timeout
    )
    return list(response.adapters)


def update_adapter(
    adapter: str,
    *,
    display_name: str | None = None,
    description: str | None = None,
    labels: Mapping[str, str] | None = None,
    profile: pb.AdapterProfile | None = None,
    warm_aliases: Sequence[str] | None = None,
    etag: str = "",
) -> Operation[pb.Adapter]:
    """Replaces each field that is given; AbortedError ETAG_MISMATCH when `etag` is stale.

    `warm_aliases`: those whose versions every inference service of the base model keeps loaded.
    """
    fields = {
        "display_name": display_name,
        "description": description,
        "labels": labels,
        "profile": profile,
        "warm_aliases": warm_aliases,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    message = pb.Adapter(name=adapter_name(adapter), etag=etag, **given)  # type: ignore[arg-type]
    request = pb.UpdateAdapterRequest(adapter=message, update_mask=FieldMask(paths=list(given)))
    return unary(f"{_SERVICE}/UpdateAdapter", request, pb.Adapter)


def delete_adapter(adapter: str, *, etag: str = "") -> Operation[pb.Adapter]:
    """Soft delete: it no longer resolves; `undelete_adapter` brings it back until `purge_time`."""
    request = pb.DeleteAdapterRequest(name=adapter_name(adapter), etag=etag)
    return unary(f"{_SERVICE}/DeleteAdapter", request, pb.Adapter)


def undelete_adapter(adapter: str, *, etag: str = "") -> Operation[pb.Adapter]:
    """Undoes `delete_adapter`."""
    request = pb.UndeleteAdapterRequest(name=adapter_name(adapter), etag=etag)
    return unary(f"{_SERVICE}/UndeleteAdapter", request, pb.Adapter)


def purge_adapter(adapter: str, *, etag: str = "") -> Operation[Empty]:
    """Forgets a deleted adapter for good; its name is free again."""
    request = pb.PurgeAdapterRequest(name=adapter_name(adapter), etag=etag)
    return unary(f"{_SERVICE}/PurgeAdapter", request, Empty)
