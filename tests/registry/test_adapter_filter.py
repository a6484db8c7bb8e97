"""The filter of ListAdapters: its grammar, what it refuses by name, and that pages obey it."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorikeet.rpc.errors import InvalidArgumentError
from protos import registry_pb2 as pb
from registry_service.adapter_filter import AdapterFilter, parse_filter
from tests.registry.conftest import World
from tests.registry.support import BASE, fields, make_base_model
from tests.registry.test_requests import pages


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", AdapterFilter()),
        ("  ", AdapterFilter()),
        ("support", AdapterFilter(prefix="support")),
        ('labels.team = "x"', AdapterFilter(labels=(("team", "x"),))),
        ("labels.team=x", AdapterFilter(labels=(("team", "x"),))),
        ('labels."my key" = "a \\"b\\""', AdapterFilter(labels=(("my key", 'a "b"'),))),
        ('labels.a.b = ""', AdapterFilter(labels=(("a.b", ""),))),
        ('base_model = "baseModels/b"', AdapterFilter(base_model="b")),
        ("warm = true", AdapterFilter(warm=True)),
        ("warm=true AND base_model = baseModels/b", AdapterFilter(base_model="b", warm=True)),
        (
            'bot AND labels.a = "AND" AND base_model = baseModels/b AND labels.c = "2"',
            AdapterFilter("bot", "b", (("a", "AND"), ("c", "2"))),
        ),
    ],
)
def test_filters_mean(text: str, expected: AdapterFilter) -> None:
    assert parse_filter(text) == expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('labels.a = "x" OR labels.b = "y"', "'OR'"),
        ('labels.a != "x"', "'!='"),
        ('labels.a > "x"', "'>'"),
        ('NOT labels.a = "x"', "'NOT' is not a term"),
        ('(labels.a = "x")', "'('"),
        ('owner = "x"', "no field 'owner'"),
        ('labels. = "x"', "the label ''"),
        ('labels.é = "x"', "cannot be filtered by"),
        ('labels.a = "x', '"'),
        ("labels.a =", "'='"),
        ('labels.a = "x" AND', "another term"),
        ("AND", "'AND' is not a term"),
        ("Upper", "'Upper' is not a term"),
        ("a b", "'b' where AND"),
        ("a AND b", "one prefix"),
        ('"text"', "is not a term"),
        ('base_model = "b"', "filter"),
        ("warm = false", "warm = true is the only"),
        ("warm = 1", "warm = true is the only"),
        ("x" * 3000, "at most"),
    ],
)
def test_the_rest_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        parse_filter(text)
    assert fields(refused.value) == ["filter"]
    assert named in refused.value.message


@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_a_named_refusal(text: str) -> None:
    with contextlib.suppress(InvalidArgumentError):
        assert isinstance(parse_filter(text), AdapterFilter)


KEYS = st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\')


@given(st.text(KEYS, min_size=1, max_size=63), st.text(max_size=20))
def test_whatever_is_quoted_comes_back(key: str, value: str) -> None:
    if "\0" in value:
        return
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_filter(f'labels."{key}" = "{quoted}"').labels == ((key, value),)


async def test_listings_filter_by_label_and_base_model(world: World) -> None:
    await make_base_model(world.admin, "other")
    for number in range(12):
        adapter = pb.Adapter(
            base_model="baseModels/other" if number % 3 == 0 else BASE,
            labels={"team": "é'x" if number % 2 else "y", "a key": str(number)},
        )
        request = pb.CreateAdapterRequest(
            parent="tenants/acme", adapter_id=f"bot-{number:02}", adapter=adapter
        )
        await world.publisher("CreateAdapter", request)

    async def found(text: str) -> list[int]:
        request = pb.ListAdaptersRequest(parent="tenants/acme", filter=text, page_size=2)
        got = await pages(world.acme, "ListAdapters", request, "adapters")
        return [int(adapter.name[-2:]) for page in got for adapter in page]

    assert await found('labels.team = "é\'x"') == [1, 3, 5, 7, 9, 11]
    assert await found('labels.team = "y" AND base_model = "baseModels/other"') == [0, 6]
    assert await found('bot-0 AND labels.team = "y"') == [0, 2, 4, 6, 8]
    assert await found('labels."a key" = "7"') == [7]
    assert await found('labels.absent = ""') == []


async def test_a_page_of_large_adapters_ends_early_and_loses_none(world: World) -> None:
    profile = pb.AdapterProfile(chat_template="x" * 60_000)
    for number in range(45):
        adapter = pb.Adapter(base_model=BASE, profile=profile)
        request = pb.CreateAdapterRequest(
            parent="tenants/acme", adapter_id=f"bot-{number:02}", adapter=adapter
        )
        await world.publisher("CreateAdapter", request)
    everything = pb.ListAdaptersRequest(parent="tenants/acme", page_size=1000)
    got = await pages(world.acme, "ListAdapters", everything, "adapters")
    assert [adapter.name[-2:] for page in got for adapter in page] == [f"{n:02}" for n in range(45)]
    assert len(got) > 1
    assert max(sum(adapter.ByteSize() for adapter in page) for page in got) < 3 * 1024 * 1024
