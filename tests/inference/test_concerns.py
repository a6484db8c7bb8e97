"""Which changes may take something away, and from whom."""

import pytest

from inference_service.access.concerns import concerns_caller, concerns_version
from inference_service.adapters.registry_watch import RegistryChange
from inference_service.identity import Caller

BY_KEY = Caller("tenants/acme/principals/app", "acme", (), api_key="tenants/acme/apiKeys/k1")
BY_TOKEN = Caller("tenants/acme/principals/app", "acme", ())
VERSION = "tenants/acme/adapters/math/versions/3"


def change(resource: str) -> RegistryChange:
    return RegistryChange(7, resource, "any.kind")


@pytest.mark.parametrize(
    ("resource", "by_key", "by_token"),
    [
        ("tenants/acme", True, True),
        ("tenants/globex", True, True),  # somebody may have held a grant in it
        ("tenants/acme/principals/app", True, True),
        ("tenants/acme/principals/other", False, True),  # it may have taken the subject over
        ("tenants/acme/apiKeys/k1", True, False),
        ("tenants/acme/apiKeys/k2", False, False),
        ("tenants/acme/adapters/math", False, False),
        ("baseModels/tiny", False, False),
    ],
)
def test_callers(resource: str, by_key: bool, by_token: bool) -> None:
    assert concerns_caller(change(resource), BY_KEY) == by_key
    assert concerns_caller(change(resource), BY_TOKEN) == by_token


@pytest.mark.parametrize(
    ("resource", "is_concerned"),
    [
        ("tenants/globex", True),
        ("tenants/acme/adapters/math", True),
        ("tenants/acme/adapters/math2", False),
        ("tenants/acme/adapters/mat", False),
        ("tenants/acme/adapters/math/versions/3", True),
        ("tenants/acme/adapters/math/versions/30", False),
        ("tenants/acme/adapters/math/aliases/stable", False),
        ("tenants/acme/principals/app", False),
    ],
)
def test_versions(resource: str, is_concerned: bool) -> None:
    assert concerns_version(change(resource), VERSION) == is_concerned
    assert not concerns_version(change("tenants/acme/adapters/math"), ""), "the base model"
