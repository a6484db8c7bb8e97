"""Base models: administrators register them, everyone may read them."""

from datetime import UTC, datetime
from typing import Any

from google.protobuf.empty_pb2 import Empty

from lorikeet.rpc.digests import config_digest
from lorikeet.rpc.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from lorikeet.rpc.names import BaseModelName, check_identifier
from protos import registry_pb2 as pb
from registry_service.artifacts.base_config import BaseConfigError, parse_base_config
from registry_service.calls import Call
from registry_service.messages import base_model_message
from registry_service.models import BaseModelRow
from registry_service.operations.changed import difference
from registry_service.operations.tenants import MAX_DISPLAY_NAME
from registry_service.repository import base_models
from registry_service.repository.idempotency import once
from registry_service.requests import allow_only, check_text, check_texts, invalid

_MAX_SOURCE = 512
_MAX_NAMES = 32
_WRITABLE = ("display_name", "source", "known_as", "revision", "config_digest", "config_json")


def create_base_model(call: Call, request: pb.CreateBaseModelRequest) -> pb.BaseModel:
    call.require_admin("baseModels")
    name = BaseModelName(check_identifier(request.base_model_id, "base_model_id"))

    def create() -> tuple[str, BaseModelRow]:
        if base_models.get(call.session, name.base_model) is not None:
            raise AlreadyExistsError(f"{name} exists already", metadata={"resource": str(name)})
        row = _checked_row(name, request.base_model)
        call.session.add(row)
        call.record("baseModels.create", name, **difference({}, _described(row)))
        return str(name), row

    row = once(
        call.session,
        str(call.caller.name),
        request,
        create,
        lambda resource: existing_base_model(call, BaseModelName.parse(resource)),
    )
    return base_model_message(row)


def _checked_row(name: BaseModelName, message: pb.BaseModel) -> BaseModelRow:
    allow_only(message, _WRITABLE, "base_model")
    try:
        config, _ = parse_base_config(message.config_json.encode())
    except BaseConfigError as error:
        raise InvalidArgumentError(
            f"the base model's config is refused: {error.violations[0].description}",
            reason="BASE_MODEL_UNSUPPORTED",
            violations=error.violations,
        ) from error
    digest = config_digest(config)
    if message.config_digest not in ("", digest):
        raise invalid("base_model.config_digest", f"does not match config_json, which has {digest}")
    known_as = check_texts(
        message.known_as, "base_model.known_as", _MAX_NAMES, _MAX_SOURCE, required=True
    )
    return BaseModelRow(
        id=name.base_model,
        display_name=check_text(message.display_name, "base_model.display_name", MAX_DISPLAY_NAME),
        source=check_text(message.source, "base_model.source", _MAX_SOURCE, required=True),
        known_as=known_as,
        revision=check_text(message.revision, "base_model.revision", _MAX_SOURCE, required=True),
        config_digest=digest,
        config_json=message.config_json,
        create_time=datetime.now(UTC),
    )


def get_base_model(call: Call, request: pb.GetBaseModelRequest) -> pb.BaseModel:
    return base_model_message(existing_base_model(call, BaseModelName.parse(request.name)))


def list_base_models(call: Call, request: pb.ListBaseModelsRequest) -> pb.ListBaseModelsResponse:
    page = call.pages.message_page(
        request,
        ["baseModels"],
        lambda after, limit: base_models.list_after(call.session, after, limit),
        lambda row: row.id,
        base_model_message,
    )
    return pb.ListBaseModelsResponse(base_models=page.rows, next_page_token=page.next_page_token)


def delete_base_model(call: Call, request: pb.DeleteBaseModelRequest) -> Empty:
    name = BaseModelName.parse(request.name)
    call.require_admin(str(name))
    row = existing_base_model(call, name)
    if base_models.is_used(call.session, name.base_model):
        raise FailedPreconditionError(
            f"{name} is used by adapters (deleted ones count until they are purged)",
            reason="BASE_MODEL_IN_USE",
        )
    before = _described(row)
    call.session.delete(row)
    call.record("baseModels.delete", name, **difference(before, {}))
    return Empty()


def _described(row: BaseModelRow) -> dict[str, Any]:
    """What the audit trail says; the digest stands for the config."""
    return {
        "display_name": row.display_name,
        "source": row.source,
        "known_as": list(row.known_as),
        "revision": row.revision,
        "config_digest": row.config_digest,
    }


def existing_base_model(call: Call, name: BaseModelName) -> BaseModelRow:
    """Base models are no secret, so an absent one is simply NOT_FOUND."""
    row = base_models.get(call.session, name.base_model)
    if row is None:
        raise NotFoundError(f"{name} does not exist", metadata={"resource": str(name)})
    return row
