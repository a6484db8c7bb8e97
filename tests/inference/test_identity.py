"""Who may speak for which tenant, and who may use adapters at all."""

import pytest

from inference_service.identity import Caller, effective_tenant
from lorikeet.rpc.errors import InvalidArgumentError, PermissionDeniedError
from protos import registry_pb2 as pb

USE, PUBLISH = pb.PERMISSION_ADAPTERS_USE, pb.PERMISSION_ADAPTERS_PUBLISH
ACT_AS, ADMIN = pb.PERMISSION_ACT_AS, pb.PERMISSION_ADMIN


def caller(*granted: tuple[pb.Permission, str]) -> Caller:
    grants = [pb.Grant(permission=permission, scope=scope) for permission, scope in granted]
    return Caller.from_identity(
        pb.Identity(principal="tenants/acme/principals/app", tenant="tenants/acme", grants=grants)
    )


@pytest.mark.parametrize(
    ("granted", "allowed"),
    [
        ([], False),
        ([(USE, "tenants/globex")], False),  # use is no licence to speak for others
        ([(USE, "*")], False),
        ([(PUBLISH, "*")], False),
        ([(ACT_AS, "tenants/initech")], False),
        ([(ACT_AS, "tenants/globex")], True),
        ([(ACT_AS, "*")], True),
        ([(ADMIN, "*")], True),
    ],
)
def test_speaking_for_another_tenant(
    granted: list[tuple[pb.Permission, str]], allowed: bool
) -> None:
    if allowed:
        assert effective_tenant(caller(*granted), "tenants/globex") == "globex"
    else:
        with pytest.raises(PermissionDeniedError) as error:
            effective_tenant(caller(*granted), "tenants/globex")
        assert error.value.reason == "TENANT_MISMATCH"


def test_the_own_tenant_may_be_named_or_left_out() -> None:
    assert effective_tenant(caller(), "") == "acme"
    assert effective_tenant(caller(), "tenants/acme") == "acme"


@pytest.mark.parametrize("name", ["acme", "tenants/", "tenants/../x", "tenants/a/b"])
def test_a_tenant_is_named_in_full(name: str) -> None:
    with pytest.raises(InvalidArgumentError):
        effective_tenant(caller((ADMIN, "*")), name)


@pytest.mark.parametrize(
    ("granted", "may_use"),
    [
        ([], False),
        ([(PUBLISH, "tenants/acme")], False),
        ([(USE, "tenants/globex")], False),
        ([(USE, "tenants/acme")], True),
        ([(USE, "*")], True),
        ([(ACT_AS, "tenants/acme")], True),
        ([(ADMIN, "*")], True),
    ],
)
def test_using_adapters_needs_a_grant_on_the_tenant(
    granted: list[tuple[pb.Permission, str]], may_use: bool
) -> None:
    assert caller(*granted).may_use_adapters("acme") is may_use


def test_administrators_are_those_with_power_over_every_tenant() -> None:
    assert caller((ADMIN, "*")).is_administrator
    assert caller((ACT_AS, "*")).is_administrator
    assert not caller((ACT_AS, "tenants/acme"), (USE, "*")).is_administrator
