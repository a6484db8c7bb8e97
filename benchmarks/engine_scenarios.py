"""What the engines are asked for, and the bars our figures are held to."""

from dataclasses import dataclass

from benchmarks.peers.driver import Job
from benchmarks.peers.launch import Peer

NUM_ADAPTERS = 16
RANKS = (8, 16, 32, 64)  # of adapter i: RANKS[i % 4]


@dataclass(frozen=True)
class Scenario:
    """All requests at once. Its tokens are those made or, where each makes one, the prompts'."""

    name: str
    adapters: tuple[int | None, ...]
    prompt_tokens: int
    new_tokens: int
    peers: tuple[Peer, ...] = ()

    @property
    def num_tokens(self) -> int:
        return len(self.adapters) * (self.new_tokens if self.new_tokens > 1 else self.prompt_tokens)

    def job(self, number: int) -> Job:
        """No two prompts of different numbers begin alike."""
        first = number * NUM_ADAPTERS
        prompts = [
            [3 + ((first + row) * 7919 + 13 * i) % 30000 for i in range(self.prompt_tokens)]
            for row in range(len(self.adapters))
        ]
        return Job(prompts, list(self.adapters), self.new_tokens)


_BASE, _MIXED = (None,) * NUM_ADAPTERS, tuple(range(NUM_ADAPTERS))
# Of 64 tokens in and 32 out where the name does not say otherwise.
BASE_16 = Scenario("16 requests, base only", _BASE, 64, 32, (Peer.vllm, Peer.transformers))
BASE_1 = Scenario("1 request, base only", (None,), 64, 32, (Peer.vllm, Peer.llama_cpp))
MIXED = Scenario(
    "16 distinct adapters", _MIXED, 64, 32, (Peer.peft, Peer.vllm_lora, Peer.llama_cpp)
)
SHARED = Scenario("1 adapter shared by 16", (1,) * NUM_ADAPTERS, 64, 32)
PREFILL = Scenario("prefill of 1,900, base only", (None,), 1900, 1, (Peer.vllm,))
PREFILL_8 = Scenario("prefill of 8 x 237, base only", (None,) * 8, 237, 1, (Peer.vllm,))
PREFILL_MIXED = Scenario("prefill of 8 x 237, 8 adapters", tuple(range(8)), 237, 1)

SCENARIOS = (BASE_16, BASE_1, MIXED, SHARED, PREFILL, PREFILL_8, PREFILL_MIXED)


@dataclass(frozen=True)
class Bar:
    """Our figure in `scenario` over `peer`'s in `against`, or our own where there is no peer."""

    scenario: Scenario
    against: Scenario
    least: float
    peer: Peer | None = None

    @property
    def name(self) -> str:
        if self.scenario == self.against:
            return self.scenario.name
        return f"{self.scenario.name} / {self.against.name}"


BARS = (
    Bar(BASE_16, BASE_16, 1.1, Peer.vllm),
    Bar(BASE_16, BASE_16, 1.7, Peer.transformers),
    Bar(BASE_1, BASE_1, 1.1, Peer.vllm),
    Bar(MIXED, BASE_16, 0.75),
    Bar(MIXED, BASE_16, 0.8, Peer.vllm),
    Bar(MIXED, MIXED, 9, Peer.peft),
    Bar(MIXED, MIXED, 20, Peer.vllm_lora),
    Bar(MIXED, MIXED, 5, Peer.llama_cpp),
    Bar(SHARED, BASE_16, 0.93),
    Bar(PREFILL, PREFILL, 1.0, Peer.vllm),
    Bar(PREFILL_MIXED, PREFILL_8, 0.9),
)
LEAST_OF_FLOOR = 0.8
MOST_START_SECONDS = 8.0
