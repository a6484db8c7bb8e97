"""`python -m protos.reference DIRECTORY`: the API reference, a page for each .proto."""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
    SourceCodeInfo,
)
from grpc_tools import protoc

_FILES = ("registry", "inference")
# Field numbers in descriptor.proto: where in a file a comment stands.
_MESSAGES, _ENUMS, _SERVICES, _SYNTAX = 4, 5, 6, 12
_FIELDS, _METHODS, _VALUES = 2, 2, 2

Place = tuple[int, ...]


@dataclass(frozen=True)
class _Comments:
    """A file's comments by the place they stand at."""

    by_place: dict[Place, SourceCodeInfo.Location]

    @classmethod
    def of(cls, file: FileDescriptorProto) -> "_Comments":
        return cls({tuple(location.path): location for location in file.source_code_info.location})

    def at(self, *place: int) -> str:
        """What is said before and behind a declaration, as one paragraph."""
        location = self.by_place.get(place)
        if location is None:
            return ""
        said = f"{location.leading_comments}\n{location.trailing_comments}"
        return " ".join(line.strip() for line in said.splitlines() if line.strip())

    def introduction(self) -> list[str]:
        """The lines above the file's first statement, as they are."""
        text = self.by_place[(_SYNTAX,)].leading_comments
        return [line.removeprefix(" ") for line in text.rstrip().splitlines()]


def main(arguments: Sequence[str]) -> None:
    """Writes registry.md and inference.md into the directory that is named."""
    directory = Path(arguments[0])
    directory.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        page = "\n".join(_page(_parsed(f"protos/{name}.proto")))
        (directory / f"{name}.md").write_text(page + "\n", encoding="utf-8")


def _parsed(proto: str) -> FileDescriptorProto:
    with tempfile.NamedTemporaryFile(suffix=".bin") as output:
        options = ["-I.", f"-I{Path(protoc.__file__).parent / '_proto'}", "--include_source_info"]
        status = protoc.main(["protoc", *options, f"--descriptor_set_out={output.name}", proto])
        if status != 0:
            raise SystemExit(status)
        return FileDescriptorSet.FromString(Path(output.name).read_bytes()).file[0]


def _page(file: FileDescriptorProto) -> Iterator[str]:
    comments = _Comments.of(file)
    yield f"# {file.package}\n"
    yield f"Made of [{file.name}](../../{file.name}) by `make protos`: change that file.\n"
    yield from ("```text", *comments.introduction(), "```")
    for index, service in enumerate(file.service):
        yield from _service(service, comments, index)
    yield "\n## Messages"
    for index, message in enumerate(file.message_type):
        yield from _message(message, comments, index)
    yield "\n## Enums"
    for index, enum in enumerate(file.enum_type):
        yield from _enum(enum, comments, index)


def _service(service: ServiceDescriptorProto, comments: _Comments, index: int) -> Iterator[str]:
    yield f"\n## {service.name}\n"
    if said := comments.at(_SERVICES, index):
        yield f"{said}\n"
    yield "| RPC | Takes | Gives | |\n|---|---|---|---|"
    for number, method in enumerate(service.method):
        said = comments.at(_SERVICES, index, _METHODS, number)
        yield _row(f"`{method.name}`", *_signature(method), _cell(said))


def _signature(method: MethodDescriptorProto) -> tuple[str, str]:
    takes, gives = _link(method.input_type), _link(method.output_type)
    return (
        f"stream of {takes}" if method.client_streaming else takes,
        f"stream of {gives}" if method.server_streaming else gives,
    )


def _message(message: DescriptorProto, comments: _Comments, index: int) -> Iterator[str]:
    yield f"\n### {message.name}\n"
    if said := comments.at(_MESSAGES, index):
        yield f"{said}\n"
    if not message.field:
        yield "No fields."
        return
    yield "| Field | Type | |\n|---|---|---|"
    for number, field in enumerate(message.field):
        said = comments.at(_MESSAGES, index, _FIELDS, number)
        yield _row(f"`{field.name}`", _type(message, field), _cell(said))


def _enum(enum: EnumDescriptorProto, comments: _Comments, index: int) -> Iterator[str]:
    yield f"\n### {enum.name}\n"
    if said := comments.at(_ENUMS, index):
        yield f"{said}\n"
    yield "| Value | Number | |\n|---|---|---|"
    for number, value in enumerate(enum.value):
        said = comments.at(_ENUMS, index, _VALUES, number)
        yield _row(f"`{value.name}`", str(value.number), _cell(said))


def _type(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    entries = {f".{nested.name}": nested for nested in message.nested_type}
    entry = entries.get(f".{field.type_name.rpartition('.')[2]}")
    if entry is not None and entry.options.map_entry:
        key, value = (_scalar(each) for each in entry.field)
        return f"map of {key} to {value}"
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {_scalar(field)}"
    if field.proto3_optional:
        return f"optional {_scalar(field)}"
    if field.HasField("oneof_index"):
        return f"{_scalar(field)}, one of `{message.oneof_decl[field.oneof_index].name}`"
    return _scalar(field)


def _scalar(field: FieldDescriptorProto) -> str:
    if field.type_name:
        return _link(field.type_name)
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def _link(type_name: str) -> str:
    """A message or enum of ours by link to its section, one of protobuf's own by name."""
    name = type_name.rpartition(".")[2]
    if type_name.startswith(".google.protobuf."):
        return f"`{type_name.removeprefix('.')}`"
    return f"[{name}](#{name.lower()})"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    main(sys.argv[1:])
