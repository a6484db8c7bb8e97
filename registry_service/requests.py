"""Checks of request fields: what is not understood is refused, never ignored."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from adapter_format.violation import shown
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


@dataclass(frozen=True)
class FieldPaths:
    """What an Update may write (AIP-134, AIP-161): fields, each with its own fields where a mask
    may name them one by one. `resource` is the request's field that carries the new values."""

    resource: str
    fields: Mapping[str, Sequence[str]]

    def all(self) -> frozenset[str]:
        """Every path that can be written: those of a field that can be divided, else the field."""
        return frozenset(path for field in self.fields for path in self._parts(field))

    def of(self, message: Message, mask: FieldMask) -> frozenset[str]:
        """The paths to write: the mask's or, without a mask, those of the fields that are set.

        "*" is a full replacement. INVALID_ARGUMENT names what cannot be written.
        """
        if not mask.paths:
            return self._implied(message)
        if "*" in mask.paths:
            if len(mask.paths) > 1:
                raise invalid("update_mask", "'*' stands for every field: give it alone")
            return self.all()
        return frozenset(part for path in mask.paths for part in self._checked(path))

    def _implied(self, message: Message) -> frozenset[str]:
        allow_only(message, {*self.fields, "name", "etag"}, self.resource)
        given = [field.name for field, _ in message.ListFields() if field.name in self.fields]
        if not given:
            raise invalid("update_mask", "names no field: nothing would change")
        return frozenset(part for field in given for part in self._parts(field))

    def _checked(self, path: str) -> Sequence[str]:
        field, dot, part = path.partition(".")
        if field in self.fields and (not dot or part in self.fields[field]):
            return [path] if dot else self._parts(field)
        allowed = sorted({*self.fields} | self.all())
        raise invalid("update_mask", f"{shown(path)} cannot be updated: use {', '.join(allowed)}")

    def _parts(self, field: str) -> Sequence[str]:
        return [f"{field}.{part}" for part in self.fields[field]] or [field]
