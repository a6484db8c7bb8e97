"""Adapter references: the contract's examples, and nothing that could be a path."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorikeet.rpc.adapter_naming import parse_adapter_reference
from lorikeet.rpc.errors import FailedPreconditionError, InvalidArgumentError
from lorikeet.rpc.names import parse_adapter_selector


def parse(value: str) -> str:
    reference = parse_adapter_reference(value, own_tenant="acme", base_model="demo-base")
    return reference.resource_name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("math", "tenants/acme/adapters/math"),
        ("math@latest", "tenants/acme/adapters/math"),
        ("math@stable", "tenants/acme/adapters/math/aliases/stable"),
        ("math@3", "tenants/acme/adapters/math/versions/3"),
        ("math@3b", "tenants/acme/adapters/math/aliases/3b"),
        ("globex/math", "tenants/globex/adapters/math"),
        ("globex/math@3", "tenants/globex/adapters/math/versions/3"),
        ("demo-base:math", "tenants/acme/adapters/math"),
        ("demo-base:globex/math@stable", "tenants/globex/adapters/math/aliases/stable"),
        ("a..b", "tenants/acme/adapters/a..b"),
    ],
)
def test_references_of_the_contract(value: str, name: str) -> None:
    assert parse(value) == name


@pytest.mark.parametrize(
    "value",
    [
        *(
            "../etc/passwd",
            "..",
            ".",
            "/math",
            "math/",
            "a/b/c",
            "math@",
            "@3",
            "math@0",
            "math@03",
        ),
        *("math@-1", "math@3@4", "Math", "math\n", " math", "math\0", "..%2f", "c:\\x", "~root"),
        *("demo-base:", ":math", "s3://bucket/math", "x" * 64, "math@" + "9" * 19, "mäth"),
    ],
)
def test_anything_else_is_refused(value: str) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        parse(value)
    assert [violation.field for violation in error.value.violations] == ["adapter"]


def test_another_base_model_is_a_failed_precondition() -> None:
    with pytest.raises(FailedPreconditionError) as error:
        parse("other-base:math")
    assert error.value.reason == "BASE_MODEL_MISMATCH"


@given(st.text(min_size=1) | st.text("./\\@:ab0-_%~", min_size=1, max_size=12))
def test_whatever_is_accepted_is_a_resource_name_of_identifiers(value: str) -> None:
    try:
        name = parse(value)
    except (InvalidArgumentError, FailedPreconditionError):
        return
    assert str(parse_adapter_selector(name)) == name
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9._-]*", part) for part in name.split("/")[1::2])
