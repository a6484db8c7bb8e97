"""The fields of an adapter that its owner may write, and their limits."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from adapter_format.violation import shown
from protos import inference_pb2
from protos import registry_pb2 as pb
from registry_service.models import AdapterRow
from registry_service.requests import allow_only, check_text, check_texts, invalid

_MAX_DISPLAY_NAME = 256
_MAX_DESCRIPTION = 4096
_MAX_LABELS = 64
_MAX_LABEL = 63
_MAX_TEMPLATE = 64 * 1024
_MAX_STOPS = 16
_MAX_STOP = 256

WRITABLE = frozenset({"display_name", "description", "labels", "profile"})


def masked_fields(request: pb.UpdateAdapterRequest) -> frozenset[str]:
    """Fields to write: those of the mask or, without one, those that are set (AIP-134)."""
    paths = list(request.update_mask.paths)
    for path in paths:
        if path not in WRITABLE:
            allowed = ", ".join(sorted(WRITABLE))
            raise invalid("update_mask", f"{shown(path)} cannot be updated: use {allowed}")
    if not paths:
        allow_only(request.adapter, {*WRITABLE, "name", "etag"}, "adapter")
        paths = [f.name for f, _ in request.adapter.ListFields() if f.name in WRITABLE]
    if not paths:
        raise invalid("update_mask", "names no field: nothing would change")
    return frozenset(paths)


def apply_fields(row: AdapterRow, message: pb.Adapter, fields: Collection[str]) -> None:
    """Checks and writes `fields` of `message` into the row."""
    for field in sorted(fields):
        setattr(row, field, _CHECKS[field](message))


def _display_name(message: pb.Adapter) -> str:
    return check_text(message.display_name, "adapter.display_name", _MAX_DISPLAY_NAME)


def _description(message: pb.Adapter) -> str:
    return check_text(message.description, "adapter.description", _MAX_DESCRIPTION)


def _labels(message: pb.Adapter) -> dict[str, str]:
    if len(message.labels) > _MAX_LABELS:
        raise invalid("adapter.labels", f"at most {_MAX_LABELS} labels are allowed")
    for key, value in message.labels.items():
        check_text(key, "adapter.labels", _MAX_LABEL, required=True)
        check_text(value, f"adapter.labels[{shown(key)}]", _MAX_LABEL)
    return dict(message.labels)


def _profile(message: pb.Adapter) -> dict[str, Any]:
    """The profile as JSON, so that its columns need not follow every new field."""
    profile, path = message.profile, "adapter.profile"
    check_text(profile.chat_template, f"{path}.chat_template", _MAX_TEMPLATE)
    check_text(profile.tool_call_parser, f"{path}.tool_call_parser", _MAX_LABEL)
    check_texts(profile.stop, f"{path}.stop", _MAX_STOPS, _MAX_STOP, required=True)
    stored: dict[str, Any] = MessageToDict(profile, preserving_proto_field_name=True)
    try:
        # Misspelt or mistyped defaults must fail here, not in every later request.
        ParseDict(stored.get("default_sampling", {}), inference_pb2.SamplingParams())
    except ParseError as error:
        description = f"are not SamplingParams fields: {shown(str(error))}"
        raise invalid(f"{path}.default_sampling", description) from error
    return stored


_CHECKS: Mapping[str, Callable[[pb.Adapter], Any]] = {
    "display_name": _display_name,
    "description": _description,
    "labels": _labels,
    "profile": _profile,
}
