"""Checks of request fields: what is not understood is refused, never ignored."""

from collections.abc import Collection, Sequence

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from lorikeet.rpc.errors import FieldViolation, InvalidArgumentError


def invalid(field: str, description: str, reason: str = "INVALID_FIELD") -> InvalidArgumentError:
    """One refused field."""
    return InvalidArgumentError(
        f"{field}: {description}", reason=reason, violations=[FieldViolation(field, description)]
    )


def check_known(message: Message, path: str = "") -> None:
    """Refuses fields this server's protos do not have, at any depth."""
    if len(UnknownFieldSet(message)):
        name = path or message.DESCRIPTOR.name
        raise invalid(name, "has a field this server does not know", "UNKNOWN_FIELD")
    for field, value in message.ListFields():
        if field.type != FieldDescriptor.TYPE_MESSAGE or _is_map_or_well_known(field):
            continue
        for item in value if field.is_repeated else [value]:
            check_known(item, f"{path}.{field.name}".lstrip("."))


def _is_map_or_well_known(field: FieldDescriptor) -> bool:
    kind = field.message_type
    assert kind is not None, "only message fields are asked about"
    return bool(kind.GetOptions().map_entry) or kind.full_name.startswith("google.protobuf.")


def allow_only(message: Message, allowed: Collection[str], path: str) -> None:
    """Refuses fields that are the server's to set, so that nobody believes they were taken."""
    for field, _ in message.ListFields():
        if field.name not in allowed:
            raise invalid(f"{path}.{field.name}", "is set by the server: leave it empty")


def check_text(value: str, field: str, max_length: int, *, required: bool = False) -> str:
    """Bounded text that every database can store."""
    if required and not value:
        raise invalid(field, "is required")
    if len(value) > max_length:
        raise invalid(field, f"has {len(value)} characters: at most {max_length} are allowed")
    if "\x00" in value:
        raise invalid(field, "contains a NUL character: remove it")
    return value


def check_texts(
    values: Sequence[str], field: str, max_count: int, max_length: int, *, required: bool = False
) -> list[str]:
    """A bounded list of bounded texts."""
    if len(values) > max_count:
        raise invalid(field, f"has {len(values)} items: at most {max_count} are allowed")
    return [
        check_text(value, f"{field}[{index}]", max_length, required=required)
        for index, value in enumerate(values)
    ]
