"""The fields of an adapter that its owner may write, and their limits."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict, ParseDict

from adapter_format.violation import shown
from lorikeet.rpc.names import check_identifier
from lorikeet.rpc.sampling_ranges import range_violations
from lorikeet.rpc.tool_call_parsers import TOOL_CALL_PARSERS
from protos import inference_pb2
from protos import registry_pb2 as pb
from registry_service.chat_templates import template_problem
from registry_service.models import AdapterRow
from registry_service.requests import FieldPaths, check_text, check_texts, invalid

_MAX_DISPLAY_NAME = 256
_MAX_DESCRIPTION = 4096
_MAX_LABELS = 64
_MAX_LABEL = 63
_MAX_TEMPLATE = 64 * 1024
_MAX_STOPS = 16
_MAX_STOP = 256
_MAX_WARM_ALIASES = 16

WRITABLE = frozenset({"display_name", "description", "labels", "profile", "warm_aliases"})

_PROFILE_FIELDS = tuple(pb.AdapterProfile.DESCRIPTOR.fields_by_name)
PATHS = FieldPaths(
    "adapter",
    {
        "display_name": (),
        "description": (),
        "labels": (),
        "profile": _PROFILE_FIELDS,
        "warm_aliases": (),
    },
)


def apply_fields(row: AdapterRow, message: pb.Adapter, paths: Collection[str]) -> None:
    """Checks and writes the fields of `message` that `paths` name into the row.

    All but `warm_aliases`, which are rows of their own.
    """
    if "display_name" in paths:
        name = check_text(message.display_name, "adapter.display_name", _MAX_DISPLAY_NAME)
        row.display_name = name
    if "description" in paths:
        text = check_text(message.description, "adapter.description", _MAX_DESCRIPTION)
        row.description = text
    if "labels" in paths:
        row.labels = checked_labels(message.labels, "adapter.labels")
    parts = [part for part in _PROFILE_FIELDS if f"profile.{part}" in paths]
    if parts:
        row.profile = checked_profile(_merged(row, message.profile, parts), "adapter.profile")


def _merged(
    row: AdapterRow, profile: pb.AdapterProfile, parts: Collection[str]
) -> pb.AdapterProfile:
    """The stored profile with `parts` as in `profile`."""
    merged = ParseDict(row.profile, pb.AdapterProfile())
    for part in parts:
        merged.ClearField(part)
    chosen = pb.AdapterProfile()
    FieldMask(paths=list(parts)).MergeMessage(profile, chosen)
    merged.MergeFrom(chosen)
    return merged


def checked_labels(labels: Mapping[str, str], path: str) -> dict[str, str]:
    """Labels as they are stored; INVALID_ARGUMENT names the one that is refused."""
    if len(labels) > _MAX_LABELS:
        raise invalid(path, f"at most {_MAX_LABELS} labels are allowed")
    for key, value in labels.items():
        check_text(key, path, _MAX_LABEL, required=True)
        check_text(value, f"{path}[{shown(key)}]", _MAX_LABEL)
    return dict(labels)


def checked_warm_aliases(aliases: Sequence[str], path: str) -> frozenset[str]:
    """Ids of aliases, which need not exist yet; INVALID_ARGUMENT names the one that is refused."""
    if len(aliases) > _MAX_WARM_ALIASES:
        raise invalid(path, f"at most {_MAX_WARM_ALIASES} aliases are kept warm")
    for index, alias in enumerate(aliases):
        check_identifier(alias, f"{path}[{index}]")
        if alias in aliases[:index]:
            raise invalid(f"{path}[{index}]", f"{shown(alias)} is listed twice")
    return frozenset(aliases)


def checked_profile(profile: pb.AdapterProfile, path: str) -> dict[str, Any]:
    """The profile as JSON, so that its columns need not follow every new field.

    INVALID_ARGUMENT for what must fail here and not in every later request.
    """
    check_text(profile.chat_template, f"{path}.chat_template", _MAX_TEMPLATE)
    problem = template_problem(profile.chat_template)
    if problem:
        raise invalid(f"{path}.chat_template", problem)
    if profile.tool_call_parser not in ("", *TOOL_CALL_PARSERS):
        description = f"{shown(profile.tool_call_parser)} is none of {', '.join(TOOL_CALL_PARSERS)}"
        raise invalid(f"{path}.tool_call_parser", description)
    check_texts(profile.stop, f"{path}.stop", _MAX_STOPS, _MAX_STOP, required=True)
    _check_sampling(profile, f"{path}.default_sampling")
    stored: dict[str, Any] = MessageToDict(profile, preserving_proto_field_name=True)
    return stored


def _check_sampling(profile: pb.AdapterProfile, path: str) -> None:
    """Misspelt, mistyped and impossible defaults. A vocabulary is what only a server knows."""
    try:
        values = MessageToDict(profile.default_sampling)
        params = ParseDict(values, inference_pb2.SamplingParams())
    except (json_format.Error, ValueError, RecursionError) as error:
        description = f"are not SamplingParams fields: {shown(str(error))}"
        raise invalid(path, description) from error
    for name, description in range_violations(params):
        raise invalid(f"{path}.{name}", description)
