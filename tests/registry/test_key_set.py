"""The issuer's keys over https: cached, bounded, refetched for a new key, never stale for ever."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_service.key_set import MAX_KEY_SET_BYTES, UrlKeySet
from tests.certificates import Authority
from tests.registry.issuer import Issuer, KeyServer


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def issuer() -> Issuer:
    issuer = Issuer()
    issuer.add("one", elliptic=True)
    return issuer


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def server(authority: Authority, issuer: Issuer) -> Iterator[KeyServer]:
    server = KeyServer(authority.server(), issuer)
    yield server
    server.close()


async def test_the_set_is_fetched_once_and_again_for_a_new_key(
    server: KeyServer, issuer: Issuer, authority: Authority
) -> None:
    clock = Clock()
    keys = UrlKeySet(server.url, authority.cert, clock)
    found = await asyncio.gather(*(keys.find("one") for _ in range(20)))
    assert all(found)
    assert server.num_requests == 1
    issuer.add("two", elliptic=True)
    assert await keys.find("two") is None, "within the interval nobody makes us ask again"
    assert server.num_requests == 1
    clock.now += 11
    assert await keys.find("two") is not None
    assert [await keys.find(f"guess{i}") for i in range(50)] == [None] * 50
    assert server.num_requests == 2
    await keys.close()


async def test_an_old_set_is_refreshed_behind_the_call_and_then_a_key_withdrawn(
    server: KeyServer, issuer: Issuer, authority: Authority
) -> None:
    clock = Clock()
    keys = UrlKeySet(server.url, authority.cert, clock)
    assert await keys.find("one")
    issuer.add("two", elliptic=True)
    del issuer.keys["one"]
    clock.now += 301
    assert await keys.find("one"), "nobody waits for the refresh"
    await keys.close()
    assert await keys.find("one") is None
    assert await keys.find("two")
    await keys.close()


async def test_without_an_answer_the_last_set_holds_until_it_is_too_old(
    server: KeyServer, authority: Authority
) -> None:
    clock = Clock()
    keys = UrlKeySet(server.url, authority.cert, clock)
    assert await keys.find("one")
    server.status = 503
    clock.now += 3500
    assert await keys.find("one")
    clock.now += 101
    assert await keys.find("one") is None, "fail closed"
    server.status = 200
    clock.now += 11
    assert await keys.find("one")
    await keys.close()


async def test_what_is_not_a_bounded_key_set_is_not_believed(
    server: KeyServer, authority: Authority
) -> None:
    large = b" " * MAX_KEY_SET_BYTES + b"{}"
    for body in (b"", b"{", b"[]", b'{"keys": []}', b"[" * 100_000, large):
        server.body = body
        keys = UrlKeySet(server.url, authority.cert)
        assert await keys.find("one") is None
        await keys.close()


async def test_bytes_that_come_too_slowly_are_not_waited_for(
    server: KeyServer, authority: Authority
) -> None:
    server.pause = 0.02
    keys = UrlKeySet(server.url, authority.cert, fetch_seconds=0.3)
    began = time.monotonic()
    assert await keys.find("one") is None
    assert time.monotonic() - began < 3
    await keys.close()


async def test_a_server_that_cannot_prove_its_name_is_not_believed(
    server: KeyServer, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other")
    for keys in (UrlKeySet(server.url, other.cert), UrlKeySet(server.url)):
        assert await keys.find("one") is None
        await keys.close()
    assert server.num_requests == 0
