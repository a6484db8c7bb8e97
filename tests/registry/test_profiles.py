"""Profiles and labels: what is refused by name, and that a version keeps its own for ever."""

from collections.abc import Mapping
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict

from lorikeet.rpc.errors import InvalidArgumentError
from protos import registry_pb2 as pb
from registry_service.operations.adapter_fields import checked_labels, checked_profile
from tests.registry.conftest import World
from tests.registry.support import failure, fields, make_adapter, make_registered, start_and_write


def profile(**values: Any) -> pb.AdapterProfile:
    return ParseDict(values, pb.AdapterProfile())


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"chat_template": "{% for m in messages %}\n{{ m.content }"}, "chat_template"),
        ({"chat_template": "{{ x | nonsense }}"}, "chat_template"),
        ({"chat_template": "{{ x is nonsense }}"}, "chat_template"),
        ({"chat_template": "{% include '/etc/passwd' %}"}, "chat_template"),
        ({"chat_template": "{{ " + "(" * 5000 + ")" * 5000 + " }}"}, "chat_template"),
        ({"chat_template": "x" * 70_000}, "chat_template"),
        ({"tool_call_parser": "two words"}, "tool_call_parser"),
        ({"tool_call_parser": "p" * 64}, "tool_call_parser"),
        ({"tool_call_parser": "mistral"}, "tool_call_parser"),
        ({"stop": ["ok", ""]}, "stop[1]"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": ["\0"]}, "stop[0]"),
        ({"default_sampling": {"temprature": 1}}, "default_sampling"),
        ({"default_sampling": {"temperature": "NaN"}}, "default_sampling.temperature"),
        ({"default_sampling": {"temperature": -1}}, "default_sampling.temperature"),
        ({"default_sampling": {"top_p": 0}}, "default_sampling.top_p"),
        ({"default_sampling": {"max_tokens": 0}}, "default_sampling.max_tokens"),
        ({"default_sampling": {"max_tokens": 1.5}}, "default_sampling"),
        ({"default_sampling": {"n": 129}}, "default_sampling.n"),
        ({"default_sampling": {"logit_bias": {"-1": 1}}}, "default_sampling.logit_bias"),
        ({"default_sampling": {"stop": [""]}}, "default_sampling.stop"),
    ],
)
def test_profiles_are_refused_by_name(values: Mapping[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        checked_profile(profile(**values), "profile")
    assert fields(refused.value) == [f"profile.{field}"]


def test_numbers_that_json_cannot_say_are_refused() -> None:
    message = pb.AdapterProfile()
    message.default_sampling.fields["temperature"].number_value = float("inf")
    with pytest.raises(InvalidArgumentError) as refused:
        checked_profile(message, "profile")
    assert fields(refused.value) == ["profile.default_sampling"]


def test_a_refused_template_names_its_line() -> None:
    with pytest.raises(InvalidArgumentError, match="line 3"):
        checked_profile(profile(chat_template="a\nb\n{% endfor %}"), "profile")


@pytest.mark.parametrize(
    "template",
    [
        "",
        "{% generation %}{{ messages[0].content | tojson }}{% endgeneration %}",
        "{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{% endfor %}",
        "{{ raise_exception('no') }}{{ strftime_now('%Y') }}",
        "{{ 9 ** 9 ** 9 }}",  # a server would choke on it; here nothing is run
    ],
)
def test_templates_of_checkpoints_are_accepted_and_not_run(template: str) -> None:
    assert checked_profile(profile(chat_template=template), "profile").get("chat_template", "") == (
        template
    )


@pytest.mark.parametrize("labels", [{"k" * 64: "v"}, {"k": "v" * 64}, {"": "v"}, {"k": "\0"}])
def test_labels_are_bounded(labels: dict[str, str]) -> None:
    with pytest.raises(InvalidArgumentError):
        checked_labels(labels, "labels")


async def test_a_version_keeps_the_profile_it_was_made_with(world: World) -> None:
    name = await make_registered(world.publisher, "acme", "bot")
    first = pb.Adapter(name=name, profile=profile(stop=["one"]))
    await world.publisher("UpdateAdapter", pb.UpdateAdapterRequest(adapter=first))

    async def commit(seed: int, **more: Any) -> pb.AdapterVersion:
        upload = await start_and_write(world.publisher, name, make_adapter(seed=seed).files())
        request = pb.CommitUploadRequest(name=upload, **more)
        version: pb.AdapterVersion = await world.publisher("CommitUpload", request)
        return version

    inherited = await commit(0)
    own = await commit(1, profile=profile(stop=["own"]), labels={"run": "7"})
    empty = await commit(2, profile=pb.AdapterProfile())
    second = pb.Adapter(name=name, profile=profile(stop=["two"]))
    await world.publisher("UpdateAdapter", pb.UpdateAdapterRequest(adapter=second))
    for version, stop in ((inherited, ["one"]), (own, ["own"]), (empty, [])):
        request = pb.ResolveAdapterRequest(tenant="tenants/acme", name=version.name)
        resolved = await world.inference("ResolveAdapter", request)
        assert list(resolved.profile.stop) == stop
        assert resolved.version == version
        assert version.base_model_config_digest.startswith("sha256:")
    assert (dict(own.labels), dict(inherited.labels)) == ({"run": "7"}, {})


async def test_a_commit_with_a_bad_profile_is_refused_and_can_be_mended(world: World) -> None:
    name = await make_registered(world.publisher, "acme", "bot")
    upload = await start_and_write(world.publisher, name, make_adapter().files())
    request = pb.CommitUploadRequest(name=upload, profile=profile(chat_template="{{"))
    error = await failure(world.publisher, "CommitUpload", request)
    assert (error.code, fields(error)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        ["profile.chat_template"],
    )
    request.profile.Clear()
    assert (await world.publisher("CommitUpload", request)).version == 1
