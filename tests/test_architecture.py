"""Who may import whom: the arrows of the design, read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = {"adapter_format", "benchmarks", "examples", "inference_service", "kernels", "lorikeet"} | {
    "migrations",
    "protos",
    "registry_service",
    "tests",
}
TORCH = {"torch", "triton", "transformers", "peft"}
WIRE = {"grpc", "boto3", "protos"}

# package (or a part of it) → our packages it may import, besides itself
MAY_IMPORT: dict[str, set[str]] = {
    "adapter_format": set(),
    "kernels": set(),
    "lorikeet": {"protos"},
    "lorikeet/rpc": {"protos"},
    "registry_service": {"adapter_format", "lorikeet.rpc", "protos"},
    "inference_service": {"adapter_format", "kernels", "lorikeet.rpc", "protos"},
    "inference_service/engine": {
        "adapter_format",
        "inference_service.engine",
        "inference_service.models",
        "kernels",
    },
    "inference_service/models": {"inference_service.models", "kernels"},
}
# package (or a part of it) → anything it must not import, ours or not
MUST_NOT_IMPORT: dict[str, set[str]] = {
    "adapter_format": TORCH | WIRE,
    "registry_service": TORCH | {"inference_service"},
    "lorikeet": TORCH | {"registry_service", "inference_service"},
    "inference_service/engine": WIRE,
    "inference_service/models": WIRE,
    "kernels": WIRE | {"transformers", "peft"},
}
KERNEL_LIBRARIES = {"torch", "triton", "numpy"}


def imports_of(path: Path) -> Iterator[str]:
    """Absolute dotted names that a file imports, wherever in the file; `from a import b` is a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = path.relative_to(ROOT).with_suffix("").parts[: -node.level or None]
            prefix = (
                (*parents, *filter(None, [node.module])) if node.level else (node.module or "",)
            )
            yield from (".".join((*prefix, alias.name)) for alias in node.names)


def imports_in(part: str) -> set[tuple[str, str]]:
    """(file, imported name) of every source file in a part of the tree."""
    files = sorted((ROOT / part).rglob("*.py"))
    assert files, f"{part} has no source"
    return {(str(path.relative_to(ROOT)), name) for path in files for name in imports_of(path)}


def is_within(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_packages_import_only_what_lies_below_them(part: str) -> None:
    top = part.partition("/")[0]
    allowed = MAY_IMPORT[part] | ({top} if part == top else set()) | {part.replace("/", ".")}
    strays = {
        (file, name)
        for file, name in imports_in(part)
        if name.partition(".")[0] in OURS and not is_within(name, allowed)
    }
    assert not strays


@pytest.mark.parametrize("part", MUST_NOT_IMPORT)
def test_packages_stay_clear_of_what_is_not_theirs(part: str) -> None:
    strays = {
        (file, name) for file, name in imports_in(part) if is_within(name, MUST_NOT_IMPORT[part])
    }
    assert not strays


def test_kernels_need_only_torch_triton_and_numpy() -> None:
    import sys

    strays = {
        (file, name)
        for file, name in imports_in("kernels")
        if name.partition(".")[0] not in sys.stdlib_module_names | KERNEL_LIBRARIES | {"kernels"}
    }
    assert not strays


def test_adapters_know_the_engine_only_by_its_messages() -> None:
    strays = {
        (file, name)
        for file, name in imports_in("inference_service/adapters")
        if is_within(name, {"inference_service.engine"})
        and not is_within(name, {"inference_service.engine.request"})
    }
    assert not strays
