"""The way of an adapter to the engine: begun early, held while it is used, let go after."""

import asyncio
from pathlib import Path

import pytest

from inference_service.adapter_loads import AdapterLoads
from inference_service.adapters.artifact import Profile, ResolvedAdapter
from inference_service.adapters.store import AdapterStore
from inference_service.engine.client import EngineRefusedError
from lorikeet.rpc.errors import FailedPreconditionError
from tests.inference.artifacts import MemoryReader, make_files
from tests.inference.scripted_engine import ScriptedEngine
from tests.inference.world import eventually


class Bench:
    def __init__(self, root: Path) -> None:
        reader = MemoryReader()
        self.artifact = reader.add(make_files())
        self.adapter = ResolvedAdapter("acme", self.artifact, Profile())
        self.store = AdapterStore(root / "adapters", reader, max_bytes=1 << 30)
        self.engine = ScriptedEngine()
        self.loads = AdapterLoads(self.store, self.engine)

    @property
    def num_leases(self) -> int:
        return self.store.num_leases(self.artifact.digest)


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    await bench.store.open()
    return bench


async def test_an_adapter_loads_while_its_request_is_still_being_prepared(bench: Bench) -> None:
    async with bench.loads.begun(bench.adapter) as loading:
        await eventually(lambda: bench.artifact.digest in bench.engine.paths)
        assert loading is not None
        assert (await loading).found_on == "remote"
        assert bench.num_leases == 1
    assert bench.num_leases == 0
    async with bench.loads.begun(None) as nothing:
        assert nothing is None


async def test_a_request_that_ends_early_lets_go(bench: Bench) -> None:
    bench.engine.load_seconds = 60.0
    begun = bench.loads.begun(bench.adapter)
    await begun.__aenter__()
    await eventually(lambda: bench.num_leases)
    await begun.__aexit__(None, None, None)
    assert bench.num_leases == 0


async def test_a_load_that_fails_says_so_where_it_is_awaited(bench: Bench) -> None:
    bench.engine.load_errors = {bench.artifact.digest: EngineRefusedError("ADAPTER_INVALID", "no")}
    async with bench.loads.begun(bench.adapter) as loading:
        await eventually(lambda: bench.engine.num_loads)
        await asyncio.sleep(0)
        assert loading is not None
        with pytest.raises(FailedPreconditionError):
            await loading
    assert bench.num_leases == 0
