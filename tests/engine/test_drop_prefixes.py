"""What a tenant computed is found no more once it was dropped, and nobody else loses anything."""

from pathlib import Path

import pytest

from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.engine.request import (
    DropPrefixes,
    Load,
    PrefixesDropped,
    SamplingOptions,
    Submit,
)
from tests.engine.driver import answer, run_to_end, stats_of

SAMPLING = SamplingOptions(temperature=0.0, max_tokens=4)
PROMPT = [5 + number % 40 for number in range(70)]
USES = [(tenant, digest) for tenant in ("acme", "globex") for digest in ("", "r1", "r3")]


@pytest.fixture
def engine(model_path: Path, adapter_paths: dict[str, Path]) -> Engine:
    config = EngineConfig(str(model_path), dtype="float32", memory_bytes=8 << 20, num_threads=1)
    engine = Engine(config)
    for number, digest in enumerate(("r1", "r3")):
        answer(engine, Load(number, digest, str(adapter_paths[digest])))
    return engine


def num_cached(engine: Engine, tenant: str, digest: str) -> int:
    """Of the prompt's tokens, when the tenant asks with the adapter; its answer stays the same."""
    submit = Submit(99, PROMPT, SAMPLING, digest, tenant)
    return run_to_end(engine, [submit])[99].num_cached


def drop(engine: Engine, tenant: str | None, digest: str | None) -> int:
    (reply,) = engine.handle(DropPrefixes(1, tenant, digest))
    assert isinstance(reply, PrefixesDropped)
    stats_of(engine)
    return reply.num_blocks


@pytest.mark.parametrize(
    ("tenant", "digest"),
    [("acme", "r1"), ("acme", ""), ("acme", None), (None, "r3"), (None, None), ("nobody", None)],
)
def test_only_what_was_named_is_dropped(
    engine: Engine, tenant: str | None, digest: str | None
) -> None:
    for use in USES:
        assert num_cached(engine, *use) == 0
    before = stats_of(engine)
    num_blocks = drop(engine, tenant, digest)
    after = stats_of(engine)
    assert before.cached_pages - after.cached_pages == num_blocks
    assert after.free_pages - before.free_pages == num_blocks
    for use in USES:
        is_dropped = tenant in (None, use[0]) and digest in (None, use[1])
        assert (num_cached(engine, *use) == 0) == is_dropped, use


def test_blocks_in_use_are_freed_when_they_are_let_go_of(engine: Engine) -> None:
    alone = run_to_end(engine, [Submit(1, PROMPT, SAMPLING, "r1", "acme")])[1]
    running = Submit(2, PROMPT, SamplingOptions(temperature=0.0, max_tokens=40), "r1", "acme")
    engine.handle(running)
    while not stats_of(engine).num_running:
        engine.step()
    engine.step()
    assert drop(engine, "acme", "r1") > 0
    assert stats_of(engine).cached_pages == 0
    # Meanwhile the tenant begins anew: the same tokens are computed, and cached, once more.
    second = run_to_end(engine, [Submit(3, PROMPT, SAMPLING, "r1", "acme")])
    assert second[3].num_cached == 0
    assert second[3].token_ids == alone.token_ids
    assert second[2].finish_reason == "length"
    stats = stats_of(engine)
    assert stats.kv_pages == 0
    assert num_cached(engine, "acme", "r1") > 0


def test_dropping_twice_finds_nothing_more(engine: Engine) -> None:
    num_cached(engine, "acme", "r1")
    assert drop(engine, "acme", "r1") > 0
    assert drop(engine, "acme", "r1") == 0
