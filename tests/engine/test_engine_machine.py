"""Any sequence of commands, sound or not: pages add up, requests end once, answers stay right."""

import shutil
import time
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from inference_service.engine.config import EngineConfig
from inference_service.engine.engine import Engine
from inference_service.engine.request import (
    Abort,
    DropPrefixes,
    Load,
    Loaded,
    Pin,
    PrefixesDropped,
    Refused,
    Reply,
    SamplingOptions,
    StepOutput,
    Submit,
    Unload,
    Unloaded,
    Unpin,
)
from tests.engine.driver import run_to_end, stats_of

NAMES = ["r1", "r3", "rslora", "partial", "broken", "missing"]
PROBE = Submit(10**6, [5, 6, 7], SamplingOptions(temperature=0.0, max_tokens=6))
MALFORMED: dict[str, dict[str, Any]] = {
    "no prompt": {"prompt_token_ids": []},
    "token out of range": {"prompt_token_ids": [5, 97]},
    "negative token": {"prompt_token_ids": [-1]},
    "too long": {"prompt_token_ids": [5] * 5000},
    "no weight": {"weight": 0.0},
    "infinite weight": {"weight": float("inf")},
    "unknown adapter": {"adapter_digest": "nobody"},
    "nothing to generate": {"sampling": SamplingOptions(max_tokens=0)},
    "endless": {"sampling": SamplingOptions(max_tokens=2**40)},
    "NaN temperature": {"sampling": SamplingOptions(temperature=float("nan"))},
    "negative temperature": {"sampling": SamplingOptions(temperature=-1.0)},
    "top_p of zero": {"sampling": SamplingOptions(top_p=0.0)},
    "negative top_k": {"sampling": SamplingOptions(top_k=-2)},
    "negative seed": {"sampling": SamplingOptions(seed=-1)},
    "stop out of range": {"sampling": SamplingOptions(stop_token_ids=(97,))},
    "bias of no token": {"sampling": SamplingOptions(logit_bias={97: 1.0})},
    "bias of a huge token": {"sampling": SamplingOptions(logit_bias={2**70: 1.0})},
    "infinite bias": {"sampling": SamplingOptions(logit_bias={5: float("inf")})},
    "no repetition penalty": {"sampling": SamplingOptions(repetition_penalty=0.0)},
    "NaN penalty": {"sampling": SamplingOptions(presence_penalty=float("nan"))},
    "min_p over one": {"sampling": SamplingOptions(min_p=1.5)},
    "more logprobs than tokens": {"sampling": SamplingOptions(logprobs=98)},
    "negative logprobs": {"sampling": SamplingOptions(prompt_logprobs=-1)},
    "min over max": {"sampling": SamplingOptions(min_tokens=17)},
}


class EngineMachine(RuleBasedStateMachine):
    """Set up by `test_any_sequence_of_commands`: the paths, and what the probe answers."""

    model_path: Path
    paths: dict[str, Path]
    probe_answer: list[int]
    page_bytes: int

    def __init__(self) -> None:
        super().__init__()
        self.open: set[int] = set()
        self.calls: set[int] = set()
        self.num_submitted = self.num_calls = 0

    @initialize(
        num_pages=st.integers(10, 40),
        max_loras=st.sampled_from([0, 2]),
        overlap=st.sampled_from(["off", "on"]),
    )
    def start(self, num_pages: int, max_loras: int, overlap: Literal["off", "on"]) -> None:
        self.engine = Engine(
            EngineConfig(
                str(self.model_path),
                dtype="float32",
                memory_bytes=num_pages * self.page_bytes,
                host_memory_bytes=200_000,
                max_loras=max_loras,
                max_num_seqs=4,
                max_num_batched_tokens=32,
                num_threads=1,
                overlap=overlap,
            )
        )

    @rule(
        name=st.sampled_from(["", *NAMES]),
        num_prompt=st.integers(1, 60),
        start=st.integers(2, 4),
        temperature=st.sampled_from([0.0, 1.0]),
        tenant=st.sampled_from("ab"),
        stops=st.sampled_from([(), tuple(range(60, 97))]),
    )
    def submit(
        self,
        name: str,
        num_prompt: int,
        start: int,
        temperature: float,
        tenant: str,
        stops: tuple[int, ...],
    ) -> None:
        self.num_submitted += 1
        prompt = [start + i % 40 for i in range(num_prompt)]
        sampling = SamplingOptions(temperature=temperature, max_tokens=12, stop_token_ids=stops)
        self.open.add(self.num_submitted)
        self._take(
            self.engine.handle(Submit(self.num_submitted, prompt, sampling, name, tenant, 1.0))
        )

    @rule(what=st.sampled_from(sorted(MALFORMED)))
    def submit_malformed(self, what: str) -> None:
        self.num_submitted += 1
        sound = Submit(self.num_submitted, [5, 6], SamplingOptions())
        self.open.add(self.num_submitted)
        self._take(self.engine.handle(msgspec.structs.replace(sound, **MALFORMED[what])))
        assert self.num_submitted not in self.open, f"{what} was accepted"

    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        request_id = data.draw(st.integers(0, self.num_submitted + 1))
        self.engine.handle(Abort(request_id))
        self.open.discard(request_id)

    @rule(name=st.sampled_from(NAMES))
    def load(self, name: str) -> None:
        self._call(Load(self._new_call(), name, str(self.paths[name])))

    @rule(name=st.sampled_from(NAMES))
    def unload(self, name: str) -> None:
        self._call(Unload(self._new_call(), name))

    @rule(name=st.sampled_from(NAMES))
    def pin(self, name: str) -> None:
        self._call(Pin(self._new_call(), name))

    @rule(name=st.sampled_from(NAMES))
    def unpin(self, name: str) -> None:
        self._call(Unpin(self._new_call(), name))

    @rule(
        tenant=st.sampled_from([None, "a", "b"]), name=st.sampled_from([None, "", "r1", "rslora"])
    )
    def drop_prefixes(self, tenant: str | None, name: str | None) -> None:
        self._call(DropPrefixes(self._new_call(), tenant, name))

    @rule(count=st.integers(1, 8))
    def step(self, count: int) -> None:
        for _ in range(count):
            self._take(self.engine.step())

    @invariant()
    def pages_add_up(self) -> None:
        if hasattr(self, "engine"):
            self.engine.check_integrity()

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        for name in NAMES:
            self._call(Unpin(self._new_call(), name))
        for _ in range(20_000):
            if self.engine.is_idle:
                break
            num_steps = self.engine.num_steps
            self._take(self.engine.step())
            if self.engine.num_steps == num_steps:  # an adapter is loading, on another thread
                time.sleep(0.001)
        assert not self.open, "requests without an end"
        assert not self.calls, "calls without an answer"
        stats = stats_of(self.engine)
        assert stats.kv_pages == stats.num_running == stats.num_waiting == 0
        assert run_to_end(self.engine, [PROBE])[PROBE.request_id].token_ids == self.probe_answer
        self.engine.close()

    def _new_call(self) -> int:
        self.num_calls += 1
        self.calls.add(self.num_calls)
        return self.num_calls

    def _call(self, command: Load | Unload | Pin | Unpin | DropPrefixes) -> None:
        self._take(self.engine.handle(command))

    def _take(self, replies: list[Reply]) -> None:
        for reply in replies:
            if isinstance(reply, StepOutput):
                for output in reply.outputs:
                    assert output.request_id in self.open, "output after the end"
                    if output.is_last:
                        self.open.remove(output.request_id)
            else:
                assert isinstance(reply, Loaded | Unloaded | PrefixesDropped | Refused)
                self.calls.remove(reply.call_id)


@pytest.fixture(scope="module")
def paths(
    adapter_paths: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("broken")
    shutil.copytree(adapter_paths["r3"], root / "broken")
    weights = root / "broken" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return {**adapter_paths, "broken": root / "broken", "missing": root / "missing"}


def test_any_sequence_of_commands(model_path: Path, paths: dict[str, Path]) -> None:
    config = EngineConfig(str(model_path), dtype="float32", memory_bytes=8 << 20, num_threads=1)
    engine = Engine(config)
    EngineMachine.model_path, EngineMachine.paths = model_path, paths
    EngineMachine.page_bytes = stats_of(engine).page_bytes
    EngineMachine.probe_answer = run_to_end(engine, [PROBE])[PROBE.request_id].token_ids
    run_state_machine_as_test(
        EngineMachine, settings=settings(max_examples=30, stateful_step_count=40)
    )
